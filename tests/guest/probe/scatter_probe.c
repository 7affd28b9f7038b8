// SPDX-License-Identifier: GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/scatter_probe.c
//
// A device without hardware that reaches all memory and takes any list of segments: it attaches to a
// dma-buf as a driver does, tells the list that it was given, and lets go. It keeps nothing between
// two calls.

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "scatter_probe.h"

/* Which lock a caller has to hold is part of the names since then. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define dma_buf_map_attachment_unlocked dma_buf_map_attachment
#define dma_buf_unmap_attachment_unlocked dma_buf_unmap_attachment
#endif

static struct platform_device *device;

static long copy_segments(struct sg_table *table, const struct scatter_probe_list *list)
{
	struct scatter_probe_segment __user *to = u64_to_user_ptr(list->segments);
	struct scatterlist *entry;
	unsigned int i;

	for_each_sgtable_dma_sg(table, entry, i) {
		struct scatter_probe_segment segment = {
			.address = sg_dma_address(entry),
			.bytes = sg_dma_len(entry),
		};

		if (i == list->capacity)
			break;
		if (copy_to_user(to + i, &segment, sizeof(segment)))
			return -EFAULT;
	}
	return 0;
}

static long fill_list(struct scatter_probe_list *list)
{
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	struct dma_buf *buffer;
	long status;

	buffer = dma_buf_get(list->fd);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
	attachment = dma_buf_attach(buffer, &device->dev);
	if (IS_ERR(attachment)) {
		status = PTR_ERR(attachment);
		goto put;
	}
	table = dma_buf_map_attachment_unlocked(attachment, DMA_BIDIRECTIONAL);
	if (IS_ERR(table)) {
		status = PTR_ERR(table);
		goto detach;
	}
	list->bytes = buffer->size;
	list->count = table->nents;
	status = copy_segments(table, list);
	dma_buf_unmap_attachment_unlocked(attachment, table, DMA_BIDIRECTIONAL);
detach:
	dma_buf_detach(buffer, attachment);
put:
	dma_buf_put(buffer);
	return status;
}

static long probe_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct scatter_probe_list __user *from = (void __user *)argument;
	struct scatter_probe_list list;
	long status;

	if (command != SCATTER_PROBE_IOCTL_LIST)
		return -ENOTTY;
	if (copy_from_user(&list, from, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;
	status = fill_list(&list);
	if (!status && copy_to_user(from, &list, sizeof(list)))
		status = -EFAULT;
	return status;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = probe_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "scatter_probe",
	.fops = &operations,
	.mode = 0600,
};

static int __init probe_init(void)
{
	const struct platform_device_info info = {
		.name = "scatter_probe",
		.id = PLATFORM_DEVID_NONE,
		.dma_mask = DMA_BIT_MASK(64),
	};
	int status;

	device = platform_device_register_full(&info);
	if (IS_ERR(device))
		return PTR_ERR(device);
	/* Of a longer segment than the device declares the debug kernel complains. */
	dma_set_max_seg_size(&device->dev, UINT_MAX);
	status = misc_register(&node);
	if (status)
		platform_device_unregister(device);
	return status;
}

static void __exit probe_exit(void)
{
	misc_deregister(&node);
	platform_device_unregister(device);
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("Tells the scatter list of a dma-buf");
MODULE_LICENSE("GPL");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
