/* Recording of work: with EMU_RECORD=FILE each launch, copy, fill and replay of a graph appends one line of JSON to FILE;
 * with EMU_DRY=1 kernels, fills and copies between device addresses are only recorded, so that large nets take seconds. */
#include "driver.h"

int dry(void) {
  const char *set = getenv("EMU_DRY");
  return set && strcmp(set, "0");
}

static FILE *open_record(void) {
  const char *path = getenv("EMU_RECORD");
  return path && *path ? fopen(path, "a") : NULL;
}

void record_launch(const struct CUfunc_st *function, const Launch *launch, int replayed) {
  FILE *file = open_record();
  if (!file) return;
  char arguments[4096] = "";
  const unsigned *grid = launch->grid, *block = launch->block;
  function->describe(launch->arguments, arguments, sizeof arguments);
  int stem = strcspn(function->source, "."), name = strcspn(function->source, " ");
  fprintf(file,
          "{\"what\": \"launch\", \"module\": \"%.*s\", \"kernel\": \"%s\", \"options\": \"%s\", \"grid\": [%u, %u, %u], "
          "\"block\": [%u, %u, %u], \"shared\": %u, \"arguments\": [%s], \"graph\": %s}\n",
          stem, function->source, function->name, function->source + name + (function->source[name] == ' '), grid[0],
          grid[1], grid[2], block[0], block[1], block[2], launch->shared, arguments, replayed ? "true" : "false");
  fclose(file);
}

void record_other(const char *what, size_t amount, const char *unit, int replayed) {
  FILE *file = open_record();
  if (!file) return;
  fprintf(file, "{\"what\": \"%s\", \"%s\": %zu, \"graph\": %s}\n", what, unit, amount, replayed ? "true" : "false");
  fclose(file);
}
