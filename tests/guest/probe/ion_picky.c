// SPDX-License-Identifier: GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/ion_picky.c
//
// A device without hardware whose limits the tests set: it attaches to a dma-buf as a driver does,
// looks whether the list that it was given keeps the limits, and lets go. The kernel of a machine
// without IOMMU looks at the mask only, and only to copy. Nothing stays attached between two calls.

#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "attached_buffer.c"
#include "ion_picky.h"

#ifdef CONFIG_DMABUF_DEBUG
#error "This option hides the pages of a scatter list, and with them their physical addresses."
#endif

static struct platform_device *device;

/* Of all files: the mask that the kernel is told of is one for all, and changes with each call. */
static DEFINE_MUTEX(lock);

static const struct ion_picky_limits no_limits = {
	.segment_size_max = U64_MAX,
	.segment_multiple = 1,
	.segments_max = U32_MAX,
	.mask_bits = 64,
};

static bool limits_are_sound(const struct ion_picky_limits *limits)
{
	const u64 boundary = limits->segment_boundary;
	const u64 multiple = limits->segment_multiple;

	if (limits->segment_size_max < SZ_4K || limits->segments_max < 1)
		return false;
	if (boundary && (boundary < SZ_4K || !is_power_of_2(boundary) || multiple > boundary))
		return false;
	if (!is_power_of_2(multiple) || multiple > limits->segment_size_max)
		return false;
	if (limits->mask_bits < 12 || limits->mask_bits > 64)
		return false;
	return !(limits->flags & ~ION_PICKY_TELLS_KERNEL) && !limits->reserved;
}

static u32 segments_of(u64 begin, u64 bytes, const struct ion_picky_limits *limits)
{
	const u64 longest = limits->segment_size_max & ~(limits->segment_multiple - 1);
	u32 count = 0;

	while (bytes) {
		u64 segment = min(bytes, longest);

		if (limits->segment_boundary)
			segment = min(segment, limits->segment_boundary - (begin & (limits->segment_boundary - 1)));
		begin += segment;
		bytes -= segment;
		count++;
	}
	return count;
}

/* Keeps the first broken rule. */
static void broken(struct ion_picky_answer *answer, u32 rule, u64 value, u64 limit)
{
	if (answer->rule != ION_PICKY_ACCEPTS)
		return;
	answer->rule = rule;
	answer->value = value;
	answer->limit = limit;
}

struct run {
	u64 begin;
	u64 bytes;
};

/* Returns begin or length if it is no multiple, else 0. */
static u64 add_run(const struct run *run, const struct ion_picky_limits *limits, struct ion_picky_answer *answer)
{
	const u64 rest = limits->segment_multiple - 1;

	answer->runs++;
	answer->segments += segments_of(run->begin, run->bytes, limits);
	return run->begin & rest ? run->begin : run->bytes & rest ? run->bytes : 0;
}

static void look_at(struct sg_table *table, const struct ion_picky_limits *limits, struct ion_picky_answer *answer)
{
	const u64 mask = DMA_BIT_MASK(limits->mask_bits);
	u64 odd = 0, copy = 0, original = 0;
	struct run run = {};
	struct scatterlist *entry;
	unsigned int i;

	for_each_sgtable_dma_sg(table, entry, i) {
		const u64 begin = sg_dma_address(entry);
		const u64 bytes = sg_dma_len(entry);
		const u64 physical = sg_phys(entry);

		answer->highest_dma = max(answer->highest_dma, begin + bytes - 1);
		answer->highest_physical = max(answer->highest_physical, physical + bytes - 1);
		if (begin != physical && !answer->bounced++) {
			copy = begin;
			original = physical;
		}
		if (run.bytes && run.begin + run.bytes == begin) {
			run.bytes += bytes;
			continue;
		}
		if (run.bytes)
			odd = add_run(&run, limits, answer) ?: odd;
		run.begin = begin;
		run.bytes = bytes;
	}
	if (run.bytes)
		odd = add_run(&run, limits, answer) ?: odd;

	if (answer->highest_dma > mask)
		broken(answer, ION_PICKY_ADDRESS, answer->highest_dma, mask);
	if (answer->bounced)
		broken(answer, ION_PICKY_BOUNCED, copy, original);
	if (odd)
		broken(answer, ION_PICKY_MULTIPLE, odd, limits->segment_multiple);
	if (answer->segments > limits->segments_max)
		broken(answer, ION_PICKY_SEGMENTS, answer->segments, limits->segments_max);
}

static long try_buffer(const struct ion_picky_limits *limits, struct ion_picky_answer *answer)
{
	const bool tells = limits->flags & ION_PICKY_TELLS_KERNEL;
	struct attached_buffer attached;
	long status;

	status = dma_set_mask_and_coherent(&device->dev, DMA_BIT_MASK(tells ? limits->mask_bits : 64));
	if (status)
		return status;
	status = attach_buffer(answer->fd, &device->dev, &attached);
	if (status)
		return status;
	*answer = (struct ion_picky_answer){
		.fd = answer->fd,
		.bytes = attached.buffer->size,
	};
	look_at(attached.table, limits, answer);
	detach_buffer(&attached);
	return 0;
}

static long set(struct ion_picky_limits *limits, const void __user *from)
{
	struct ion_picky_limits wanted;

	if (copy_from_user(&wanted, from, sizeof(wanted)))
		return -EFAULT;
	if (!limits_are_sound(&wanted))
		return -EINVAL;
	*limits = wanted;
	return 0;
}

static long try(const struct ion_picky_limits *limits, void __user *from)
{
	struct ion_picky_answer answer;
	long status;

	if (copy_from_user(&answer, from, sizeof(answer)))
		return -EFAULT;
	if (answer.reserved)
		return -EINVAL;
	status = try_buffer(limits, &answer);
	if (!status && copy_to_user(from, &answer, sizeof(answer)))
		status = -EFAULT;
	return status;
}

static long picky_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;
	long status = -ENOTTY;

	mutex_lock(&lock);
	if (command == ION_PICKY_IOCTL_SET)
		status = set(file->private_data, user);
	else if (command == ION_PICKY_IOCTL_TRY)
		status = try(file->private_data, user);
	mutex_unlock(&lock);
	return status;
}

static int picky_open(struct inode *inode, struct file *file)
{
	file->private_data = kmemdup(&no_limits, sizeof(no_limits), GFP_KERNEL);
	return file->private_data ? 0 : -ENOMEM;
}

static int picky_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = picky_open,
	.release = picky_release,
	.unlocked_ioctl = picky_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ion_picky",
	.fops = &operations,
	.mode = 0600,
};

static int __init picky_init(void)
{
	int status;

	device = register_bare_device("ion_picky");
	if (IS_ERR(device))
		return PTR_ERR(device);
	status = misc_register(&node);
	if (status)
		platform_device_unregister(device);
	return status;
}

static void __exit picky_exit(void)
{
	misc_deregister(&node);
	platform_device_unregister(device);
}

module_init(picky_init);
module_exit(picky_exit);
MODULE_DESCRIPTION("Takes a dma-buf if it keeps the limits that were set");
MODULE_LICENSE("GPL");
