/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * File: compat/preload/served.h
 *
 * The functions of libion_preload_served.so, which libion_preload.so loads at its first hit.
 */
#ifndef ION_COMPAT_PRELOAD_SERVED_H_
#define ION_COMPAT_PRELOAD_SERVED_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns a value, or a negative errno. */
struct ion_served {
  /* A descriptor of /dev/ion, or of /dev/dma_heap/system. flags: open's. */
  long (*open)(int dma_heap, int flags);
  long (*ioctl)(int fd, unsigned long request, void* argument);
};

const struct ion_served* ion_served_functions(void);

#ifdef __cplusplus
}
#endif

#endif /* ION_COMPAT_PRELOAD_SERVED_H_ */
