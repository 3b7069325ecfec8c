"""An HTTP service that classifies images, on Starlette (`pip install 'minicaffe[serve]'`):

    MODEL=deploy.prototxt WEIGHTS=net.caffemodel LIKE=train_val.prototxt LABELS=words.txt uvicorn --factory service:app

POST / takes an image, as the body or as the file `image` of a form, and returns its most probable classes as JSON.
"""

import asyncio
import contextlib
import math
import os
import queue
from concurrent.futures import ThreadPoolExecutor

from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import minicaffe as caffe
from minicaffe.cores import cores
from minicaffe.errors import DataError, MinicaffeError, UsageError
from minicaffe.inference.predictor import Predictor
from minicaffe.inference.preprocessing import Preprocessing, read_block
from minicaffe.inference.results import Best
from minicaffe.text import class_names

MAX_BYTES = 10 << 20  # of a request
SECONDS = 10  # within which its body has to arrive
TOP = 5  # classes in an answer


async def image_of(request: Request) -> bytes:
    """Return the body of a request, or the file `image` if the body is a form."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=10) as form:
        if not hasattr(form.get("image"), "read"):
            raise HTTPException(400, "the form has no file 'image'")
        return await form["image"].read()


class Service:
    """Nets of one model, each run by one thread at a time, and the requests that they compute or that wait for them.

    model, weights: files of the net.  like: the prototxt with its preprocessing.  labels: file of class names, or "".
    workers: number of nets.  waiting: number of requests that may wait; further ones are refused.
    """

    def __init__(self, model: str, weights: str, like: str, labels: str, workers: int, waiting: int) -> None:
        if workers < 1 or waiting < 0:
            raise UsageError(f"expected at least 1 worker and 0 waiting requests, got {workers} and {waiting}")
        caffe.set_threads(1)  # for each net
        self.free, self.nets = workers + waiting, queue.SimpleQueue()
        for _ in range(workers):
            self.nets.put(net := Predictor(caffe.Net(model, caffe.TEST, weights=weights)))
        classes = math.prod(net.row_shape(net.blobs[0]))
        self.labels = class_names(labels, classes) if labels else [""] * classes
        self.preprocessing = Preprocessing(read_block(like, [net.input]), net.shape, net.input)
        self.pool = ThreadPoolExecutor(workers)

    def classify(self, data: bytes) -> list[dict]:
        """Return the classes of an encoded image, the most probable first; DataError if it is damaged.

        A score that is not finite, which JSON does not have, is None.
        """
        images = self.preprocessing.batch([self.preprocessing.decode(data, "the image")])
        net = self.nets.get()
        try:
            scores = net.predict(images)[net.blobs[0]]
        finally:
            self.nets.put(net)
        classes, values = (each[0].tolist() for each in Best.of(scores, TOP))
        finite = (value if math.isfinite(value) else None for value in values)
        return [{"class": k, "label": self.labels[k], "score": value} for k, value in zip(classes, finite)]

    async def post(self, request: Request) -> JSONResponse:
        """Answer a request; refuse it before its body is read if it is too large or too many are waiting."""
        headers = request.headers
        if "transfer-encoding" in headers or int(headers.get("content-length", MAX_BYTES + 1)) > MAX_BYTES:
            raise HTTPException(413, f"send an image of at most {MAX_BYTES} bytes, with its Content-Length")
        if not self.free:
            raise HTTPException(503, "too many requests are waiting", {"Retry-After": "1"})
        self.free -= 1
        try:
            data = await asyncio.wait_for(image_of(request), SECONDS)
            classes = await asyncio.get_running_loop().run_in_executor(self.pool, self.classify, data)
        except (DataError, FormParserError, ClientDisconnect) as error:
            raise HTTPException(400, str(error)) from None
        except asyncio.TimeoutError:  # noqa: UP041  (another class in Python 3.10)
            raise HTTPException(408, f"the image did not arrive within {SECONDS} seconds") from None
        finally:
            self.free += 1
        return JSONResponse({"classes": classes})

    async def health(self, request: Request) -> JSONResponse:
        """Return how many further requests would be taken."""
        return JSONResponse({"free": self.free})

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette):
        """End the threads when the server has answered the last request."""
        yield
        self.pool.shutdown()

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [Route("/", self.post, methods=["POST"]), Route("/health", self.health)]
        return Starlette(routes=routes, lifespan=self.lifespan)


def app() -> Starlette:
    """Return the application for the files and numbers in environment variables."""
    env = os.environ
    try:
        workers, waiting = int(env.get("WORKERS") or cores()), int(env.get("WAITING") or 64)
        return Service(env["MODEL"], env["WEIGHTS"], env["LIKE"], env.get("LABELS", ""), workers, waiting).app()
    except KeyError as error:
        raise SystemExit(f"the service cannot start: the variable {error.args[0]} is not set") from None
    except (MinicaffeError, ValueError) as error:
        raise SystemExit(f"the service cannot start: {error}") from None
