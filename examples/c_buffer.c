// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A C program that allocates a frame, fills it, hands its descriptor on, imports it as another
// user would, reads it, and prints the report. Usage: c_buffer [BACKENDS], as "dma_heap,udmabuf".

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/include/ion_c.h"

static struct ion_c_error error;

// Ends the program with the sentence of the call that failed.
static void check(int answer) {
  if (answer == 0) return;
  fprintf(stderr, "c_buffer: %s\n", error.text);
  exit(1);
}

static void fill(ion_c_buffer* frame, size_t bytes, int with) {
  void* at;
  check(ion_c_map(frame, ION_C_READ | ION_C_WRITE, &at, &error));
  check(ion_c_begin(frame, ION_C_WRITE, -1, &error));
  memset(at, with, bytes);
  check(ion_c_end(frame, &error));
  check(ion_c_unmap(frame, &error));
}

static unsigned sum(ion_c_buffer* frame, size_t bytes) {
  void* at;
  unsigned all = 0;
  check(ion_c_map(frame, ION_C_READ, &at, &error));
  check(ion_c_begin(frame, ION_C_READ, -1, &error));
  for (size_t i = 0; i < bytes; ++i) all += ((const unsigned char*)at)[i];
  check(ion_c_end(frame, &error));
  check(ion_c_unmap(frame, &error));
  return all;
}

static void print_report(ion_c_manager* manager) {
  size_t needed;
  check(ion_c_report(manager, NULL, 0, &needed, &error));
  char* text = malloc(needed);
  if (text != NULL && ion_c_report(manager, text, needed, NULL, &error) == 0) fputs(text, stdout);
  free(text);
}

int main(int count, char** arguments) {
  enum { kBytes = 1 << 20 };
  const struct ion_c_manager_options options = {.backends = count > 1 ? arguments[1] : NULL};
  const struct ion_c_client_options camera_options = {.name = "camera", .quota_bytes = 8 * kBytes};
  const struct ion_c_client_options viewer_options = {.name = "viewer"};
  const struct ion_c_request request = {.bytes = kBytes, .name = "frame"};
  ion_c_manager* manager;
  ion_c_client *camera, *viewer;
  ion_c_buffer *frame, *view;
  char backend[32];
  int fd;

  check(ion_c_manager_open(&options, &manager, &error));
  check(ion_c_manager_backend(manager, backend, sizeof(backend), &error));
  check(ion_c_client_create(manager, &camera_options, &camera, &error));
  check(ion_c_client_create(manager, &viewer_options, &viewer, &error));

  check(ion_c_allocate(camera, &request, &frame, &error));
  fill(frame, kBytes, 0x5a);
  check(ion_c_share(frame, &fd, &error));  // for a driver, or another process
  check(ion_c_import(viewer, fd, &view, &error));
  close(fd);
  printf("%s: the sum of %d bytes is %u\n", backend, kBytes, sum(view, kBytes));
  print_report(manager);

  check(ion_c_release(view, &error));
  check(ion_c_release(frame, &error));
  check(ion_c_client_close(viewer, &error));
  check(ion_c_client_close(camera, &error));
  check(ion_c_manager_close(manager, &error));
  return 0;
}
