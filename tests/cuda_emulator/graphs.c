/* Graphs of the emulated device: lists of recorded work. */
#include "work.h"

struct CUgraphExec_st {
  Work *first;
};
int captures;

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  if (IS_DEFAULT(stream) || stream->graph) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  stream->graph = calloc(1, sizeof *stream->graph);
  stream->graph->end = &stream->graph->first;
  capturing++;
  __sync_fetch_and_add(&captures, 1);
  OK;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  if (!stream || !stream->graph) return CUDA_ERROR_INVALID_VALUE;
  *graph = stream->graph;
  stream->graph = NULL;
  capturing--;
  __sync_fetch_and_sub(&captures, 1);
  OK;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  *status = stream && stream->graph ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  OK;
}
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
  size_t n = 0;
  for (Work *work = graph->first; work; work = work->next, n++)
    if (nodes && n < *count) nodes[n] = (CUgraphNode)work;
  *count = n;
  OK;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  *exec = calloc(1, sizeof **exec);
  Work **end = &(*exec)->first;
  for (Work *work = graph->first; work; work = work->next, end = &(*end)->next) {
    *end = copy_of(work, 0);
    (*end)->replayed = 1;
  }
  OK;
}
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) { OK; }
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  CUresult result = CUDA_SUCCESS;
  size_t nodes = 0;
  for (Work *work = exec->first; work; work = work->next) nodes++;
  pthread_mutex_lock(&lock); /* a graph is one unit of work in its stream */
  record_other("graph", nodes, "nodes", 0);
  if (!IS_DEFAULT(stream)) stream->launches = 1;
  for (Work *work = exec->first; work && !result; work = work->next) result = submit(stream, *work);
  pthread_mutex_unlock(&lock);
  return result;
}
static void free_all(Work *work) {
  while (work) {
    Work *next = work->next;
    free_work(work);
    work = next;
  }
}
CUresult cuGraphDestroy(CUgraph graph) {
  free_all(graph->first);
  free(graph);
  OK;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  free_all(exec->first);
  free(exec);
  OK;
}
