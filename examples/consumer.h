// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/consumer.h
//
// The second process: imports the buffers that come over the socket, maps them, and checks each
// frame inside a CpuRead scope. Ends after the last frame, or with an error when the producer goes.
#ifndef ION_EXAMPLES_CONSUMER_H_
#define ION_EXAMPLES_CONSUMER_H_

#include <string>

#include "absl/status/status.h"
#include "examples/message_socket.h"

namespace ion::demo {

// `png`: where to write the last frame, as it was checked; empty: nowhere.
absl::Status Consume(MessageSocket& producer, const std::string& png);

}  // namespace ion::demo

#endif  // ION_EXAMPLES_CONSUMER_H_
