// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Layouts that are known at compile time and have a refused input: see tools/nocompile.sh.

#include "ion/image_layout.h"

namespace {

[[maybe_unused]] constexpr ion::ImageLayout kSound = ion::LayoutOf<ion::ImageSpec{
    .format = ion::PixelFormat::kNv12, .width = 1920, .height = 1080}>();

#if defined(CASE_odd_size)
// EXPECT odd_size: this image has no layout
constexpr ion::ImageLayout kOdd = ion::LayoutOf<ion::ImageSpec{
    .format = ion::PixelFormat::kNv12, .width = 1919, .height = 1080}>();
#endif

#if defined(CASE_drm_code_of_five_letters)
// EXPECT drm_code_of_five_letters: FourccOf
static_assert(ion::FourccOf("NV12M") != 0);
#endif

}  // namespace
