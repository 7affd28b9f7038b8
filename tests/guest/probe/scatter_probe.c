// SPDX-License-Identifier: GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/scatter_probe.c
//
// A device without hardware that reaches all memory and takes any list of segments: it attaches to a
// dma-buf as a driver does, tells the list that it was given, and lets go. It keeps nothing between
// two calls.

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/uaccess.h>

#include "attached_buffer.c"
#include "scatter_probe.h"

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
	struct attached_buffer attached;
	long status = attach_buffer(list->fd, &device->dev, &attached);

	if (status)
		return status;
	list->bytes = attached.buffer->size;
	list->count = attached.table->nents;
	status = copy_segments(attached.table, list);
	detach_buffer(&attached);
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
	int status;

	device = register_bare_device("scatter_probe");
	if (IS_ERR(device))
		return PTR_ERR(device);
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
