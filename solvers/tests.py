"""Tests of a solver: its test nets, run with the parameters of the train net, and their mean outputs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minicaffe.solvers import outputs, run_state, snapshot
from minicaffe.solvers.outputs import Outputs, Scores

log = logging.getLogger("minicaffe")


class Tests:
    """The tests of a solver.

    before: run state (`run_state.of`) of before the test that is running; None between tests.  A snapshot that is
        made in the meantime, or after a stop, contains it, so that a resumed run repeats the whole test.
    """

    def __init__(self, solver: Any) -> None:
        self._solver = solver
        self.before: dict[str, Any] | None = None

    def run_all(self) -> list[Scores]:
        """Run every test net; return the result of `run` for each, fewer if the solver is stopped."""
        scores: list[Scores] = []
        with self.running():
            for i in range(len(self._solver.test_nets)):
                if not self._solver.stopped:
                    scores.append(self.run(i))
        return scores

    def run(self, net_id: int) -> Scores:
        """Run one test net for its `test_iter` batches.

        Returns {output blob name: list of the means of its values over the batches, or of its mAP}; {} if interrupted.
        """
        with self.running():
            return self._run(net_id)

    def outputs(self, net_id: int) -> Outputs:
        """Return the Outputs of a test net, without any batch; SolverError if the net does not fit the eval_type."""
        return outputs.of_solver(self._solver.param, self._solver.test_nets[net_id])

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the run state of before the block in `before`, until the block ends without a stop."""
        if self.before is not None:  # within another such block
            yield
            return
        self.before = run_state.of(self._solver)
        yield
        if not self._solver.stopped:
            self.before = None

    def _run(self, net_id: int) -> Scores:
        solver = self._solver
        net, batches, with_loss = (
            solver.test_nets[net_id],
            solver.param.test_iter[net_id],
            solver.param.test_compute_loss,
        )
        log.info("Iteration %d, Testing net (#%d)", solver.iter, net_id)
        net.share_with(solver.net)
        results, loss = self.outputs(net_id), 0.0
        for i in range(batches):
            if self._interrupted():
                log.info("Test interrupted.")
                return {}
            net.run_forward()
            loss += net.loss() if with_loss else 0.0
            results.add_batch()
            solver.notify("on_test_batch", net_id, i)
        if with_loss:
            log.info("Test loss: %.6g", loss / batches)
        scores = results.scores()
        log_outputs("Test", net, scores, results.notes)
        solver.notify("on_test", net_id, scores)
        return scores

    def _interrupted(self) -> bool:
        """Carry out the requests of the solver's `action` during a test; return whether to stop.

        A snapshot of this iteration that exists already is not written again.
        """
        solver = self._solver
        while (request := solver.action()) is not None:
            if request == "stop":
                solver.stop()
                break
            if request == "snapshot" and solver.last_state != snapshot.state_path(solver):
                if solver.ranks.several:  # the others take part in it after the test
                    solver.ranks.request(request)
                else:
                    solver.try_snapshot()
        return solver.stopped


def log_outputs(which: str, net: Any, scores: Scores, notes: Mapping[str, Sequence[str]] | None = None) -> None:
    """Log a line such as `Train net output #0: loss = 0.26 (* 1 = 0.26 loss)` for each output value.

    which: "Train" or "Test".  scores: {blob name: values}.  notes: {blob name: lines before its values}; default: none.
    """
    index = 0
    for name, values in scores.items():
        for note in (notes or {}).get(name, ()):
            log.info("%s", note)
        weight = net.blob_loss_weights.get(name, 0.0)
        for value in values:
            note = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            log.info("    %s net output #%d: %s = %.6g%s", which, index, name, value, note)
            index += 1
