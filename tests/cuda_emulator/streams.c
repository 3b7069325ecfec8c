/* Streams and events. Work of a stream is done in its order, and at once or as late as CUDA allows: when its stream is
 * synchronised with, or another one waits for an event that was recorded after it. So a missing wait shows in wrong numbers.
 *
 * EMU_LATE says which streams are late: "copies" (the default) those in which no kernel, and no function on the host, was
 * launched so far; "kernels" the others (an error of a kernel is then reported by a later call); "none" no stream.
 */
#include <time.h>

#include "work.h"

static CUstream streams; /* all that are; guarded by `lock` like everything here */

static int is_late(CUstream stream) {
  const char *late = getenv("EMU_LATE");
  if (late && !strcmp(late, "none")) return 0;
  return late && !strcmp(late, "kernels") ? stream->launches : !stream->launches;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

/* Does a stream's work up to a number; goes on after an error, and returns the first. */
static CUresult drain(CUstream stream, size_t number) {
  CUresult result = CUDA_SUCCESS;
  while (stream->first && stream->done < number) {
    Work *work = stream->first;
    stream->first = work->next;
    if (!stream->first) stream->end = &stream->first;
    stream->done = work->number;
    CUresult found = CUDA_SUCCESS;
    if (work->kind == WAIT)
      found = drain(work->other, work->size);
    else if (work->kind == RECORD)
      ((CUevent)work->target)->time = now();
    else
      found = run(work);
    if (!result) result = found;
    free_work(work);
  }
  return result;
}

CUresult drain_all(void) {
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  for (CUstream stream = streams; stream; stream = stream->next) {
    CUresult found = drain(stream, stream->queued);
    if (!result) result = found;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static int uses(const Work *work, const char *start, const char *end) {
  const char *target = work->target, *source = work->source;
  if (work->kind == LAUNCH || work->kind == HOST) return 1; /* possibly */
  return work->kind < LAUNCH && ((target >= start && target < end) || (source >= start && source < end));
}

CUresult drain_users(const void *start, size_t size) {
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  for (CUstream stream = streams; stream; stream = stream->next) {
    size_t last = 0;
    for (Work *work = stream->first; work; work = work->next)
      if (uses(work, start, (const char *)start + size)) last = work->number;
    CUresult found = drain(stream, last);
    if (!result) result = found;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static CUresult drain_one(CUstream stream, size_t number) {
  pthread_mutex_lock(&lock);
  CUresult result = drain(stream, number);
  pthread_mutex_unlock(&lock);
  return result;
}

/* Pageable memory of the host may change or end after the call: a copy from it takes the data with it, and a copy to it is
 * done at once. */
static CUresult enqueue(CUstream stream, const Work *work) {
  int pageable = work->kind == COPY && ((work->way == TO_DEVICE && !is_pinned(work->source)) ||
                                        (work->way == TO_HOST && !is_pinned(work->target)));
  pthread_mutex_lock(&lock);
  if (work->kind == LAUNCH || work->kind == HOST) stream->launches = 1; /* NCCL's kernels are functions on the host */
  CUresult result = CUDA_SUCCESS;
  int late = is_late(stream) && !(pageable && work->way == TO_HOST);
  if (!late && !stream->first && work->kind < RECORD) {
    stream->done = ++stream->queued;
    result = run(work);
  } else {
    *stream->end = copy_of(work, pageable && work->way == TO_DEVICE);
    (*stream->end)->number = ++stream->queued;
    stream->end = &(*stream->end)->next;
    if (!late) result = drain(stream, stream->queued);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

CUresult submit(CUstream stream, Work work) {
  NEEDS_CONTEXT;
  if (IS_DEFAULT(stream)) { /* the default stream synchronises with all others: forbidden in a capture */
    NOT_IN_ANY_CAPTURE;
    CUresult result = drain_all();
    return result ? result : run(&work);
  }
  if (!stream->graph) return enqueue(stream, &work);
  *stream->graph->end = copy_of(&work, 0);
  stream->graph->end = &(*stream->graph->end)->next;
  OK;
}

/* ---- streams ---- */

CUresult cuCtxSynchronize(void) {
  NOT_IN_ANY_CAPTURE;
  return drain_all();
}
CUresult cuStreamCreate(CUstream *created, unsigned flags) {
  CUstream stream = calloc(1, sizeof *stream);
  stream->end = &stream->first;
  pthread_mutex_lock(&lock);
  stream->next = streams;
  streams = *created = stream;
  pthread_mutex_unlock(&lock);
  OK;
}
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  return cuStreamCreate(stream, flags);
}
/* As on a device, its work goes on; events know it, so it is kept. */
CUresult cuStreamDestroy_v2(CUstream stream) { OK; }
CUresult cuStreamSynchronize(CUstream stream) {
  if (IS_DEFAULT(stream)) return drain_all();
  return stream->graph ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : drain_one(stream, stream->queued);
}
/* A loop that asks again and again ends: the work that is asked for is done after the first answer. */
CUresult cuStreamQuery(CUstream stream) {
  int busy = !IS_DEFAULT(stream) && stream->first;
  CUresult result = cuStreamSynchronize(stream);
  return busy && !result ? CUDA_ERROR_NOT_READY : result;
}

/* ---- events ---- */

static CUresult reach(CUevent event) { return event->stream ? drain_one(event->stream, event->number) : CUDA_SUCCESS; }

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  if (!IS_DEFAULT(stream) && stream->graph) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  if (IS_DEFAULT(stream) || !event->stream) return reach(event);
  return submit(stream, (Work){.kind = WAIT, .other = event->stream, .size = event->number});
}
CUresult cuEventCreate(CUevent *event, unsigned flags) {
  *event = calloc(1, sizeof **event);
  OK;
}
CUresult cuEventDestroy_v2(CUevent event) { /* kept if queued work will still write its time */
  if (!event->stream || event->stream->done >= event->number) free(event);
  OK;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  event->time = now();
  event->stream = NULL;
  if (IS_DEFAULT(stream)) return drain_all();
  if (stream->graph) OK; /* part of the graph, which runs as one unit */
  CUresult result = submit(stream, (Work){.kind = RECORD, .target = event});
  event->stream = stream;
  event->number = stream->queued;
  return result;
}
CUresult cuEventSynchronize(CUevent event) {
  NOT_IN_CAPTURE;
  return reach(event);
}
CUresult cuEventQuery(CUevent event) {
  int busy = event->stream && event->stream->done < event->number;
  CUresult result = reach(event);
  return busy && !result ? CUDA_ERROR_NOT_READY : result;
}
CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end) {
  CUevent both[] = {start, end};
  for (int i = 0; i < 2; i++)
    if (both[i]->stream && both[i]->stream->done < both[i]->number) return CUDA_ERROR_NOT_READY;
  *ms = end->time - start->time;
  OK;
}
