// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Does wrong what its argument names, so that sanitizer_control_test can show that each sanitizer
// catches it.

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace {

// Volatile, so that no compiler proves the error and drops it.
volatile int one = 1;
int counter = 0;
int* volatile lost = nullptr;

void UseAfterFree() {
  volatile int* volatile freed = new int(0);
  delete freed;
  *freed = one;
}

void Leak() {
  lost = new int(0);
  lost = nullptr;
}

void SignedOverflow() {
  int most = INT_MAX;
  most += one;
  std::printf("%d\n", most);
}

void DataRace() {
  auto count = [] {
    for (int i = 0; i < 1000; ++i) counter += one;
  };
  std::jthread first(count);
  std::jthread second(count);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view error = argc == 2 ? argv[1] : "";
  if (error == "use-after-free") {
    UseAfterFree();
  } else if (error == "leak") {
    Leak();
  } else if (error == "signed-overflow") {
    SignedOverflow();
  } else if (error == "data-race") {
    DataRace();
  } else {
    std::fputs("usage: sanitizer_control use-after-free|leak|signed-overflow|data-race\n", stderr);
    return 2;
  }
}
