// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/attached_buffer.c
//
// For the modules of this directory: a dma-buf that is mapped for a device, from a descriptor.

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/version.h>

/* Which lock a caller has to hold is part of the names since then. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define dma_buf_map_attachment_unlocked dma_buf_map_attachment
#define dma_buf_unmap_attachment_unlocked dma_buf_unmap_attachment
#endif

struct attached_buffer {
  struct dma_buf *buffer;
  struct dma_buf_attachment *attachment;
  struct sg_table *table;
};

/* Returns 0, or the negative errno of the exporter; then nothing is attached. */
static inline long attach_buffer(int fd, struct device *device, struct attached_buffer *attached) {
  long status;

  attached->buffer = dma_buf_get(fd);
  if (IS_ERR(attached->buffer)) return PTR_ERR(attached->buffer);
  attached->attachment = dma_buf_attach(attached->buffer, device);
  if (IS_ERR(attached->attachment)) {
    status = PTR_ERR(attached->attachment);
    goto put;
  }
  attached->table = dma_buf_map_attachment_unlocked(attached->attachment, DMA_BIDIRECTIONAL);
  if (!IS_ERR(attached->table)) return 0;
  status = PTR_ERR(attached->table);
  dma_buf_detach(attached->buffer, attached->attachment);
put:
  dma_buf_put(attached->buffer);
  return status;
}

static inline void detach_buffer(struct attached_buffer *attached) {
  dma_buf_unmap_attachment_unlocked(attached->attachment, attached->table, DMA_BIDIRECTIONAL);
  dma_buf_detach(attached->buffer, attached->attachment);
  dma_buf_put(attached->buffer);
}

/* A device without hardware that reaches all memory. Returns an error pointer, as the kernel's. */
static inline struct platform_device *register_bare_device(const char *name) {
  const struct platform_device_info info = {
      .name = name,
      .id = PLATFORM_DEVID_NONE,
      .dma_mask = DMA_BIT_MASK(64),
  };
  struct platform_device *device = platform_device_register_full(&info);

  if (IS_ERR(device)) return device;
  /* Of longer segments than a device declares the debug kernel complains. */
  dma_set_max_seg_size(&device->dev, UINT_MAX);
  dma_set_seg_boundary(&device->dev, ULONG_MAX);
  return device;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
