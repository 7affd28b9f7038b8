// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Reserved memory, read from trees of files that each case writes.

#include "ion/platforms/device_tree.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/heap_spec.h"
#include "ion/platforms/heap_table.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/temp_dir.h"

namespace ion::platforms {
namespace {

using testing::Faults;
using testing::FaultSyscalls;
using testing::LeakCheck;
using testing::TempDir;

std::string Cells(std::initializer_list<uint32_t> cells) {
  std::string bytes;
  for (const uint32_t cell : cells) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(cell >> shift & 0xff);
  }
  return bytes;
}
std::string Text(const std::string& text) { return text + '\0'; }

class Tree {
 public:
  explicit Tree(uint32_t address_cells = 1, uint32_t size_cells = 1) {
    Write("#address-cells", Cells({address_cells}));
    Write("#size-cells", Cells({size_cells}));
    Write("ranges", "");
    Write("name", Text("reserved-memory"));
  }
  void Node(const std::string& name) { std::filesystem::create_directory(dir_.At(name)); }
  void Write(const std::string& path, const std::string& bytes) {
    std::ofstream(dir_.At(path), std::ios::binary) << bytes;
  }
  std::string At(const std::string& path) const { return dir_.At(path); }

  absl::StatusOr<std::vector<ReservedRegion>> Read() const {
    return ReadReservedMemory(dir_.path());
  }
  // What is wrong with it.
  std::string Refusal(int code) const {
    const LeakCheck leaks;
    const absl::Status status = Read().status();
    CHECK(ErrnoOf(status) == code);
    return std::string(status.message());
  }

 private:
  TempDir dir_;
};

// With a node `gpu@30000000` that is good.
class TreeOfOne : public Tree {
 public:
  TreeOfOne() {
    Node("gpu@30000000");
    Write("gpu@30000000/reg", Cells({0x30000000, 0x1000000}));
  }
  std::string RefusalOf(const std::string& property, const std::string& bytes, int code = EINVAL) {
    Write("gpu@30000000/" + property, bytes);
    return Refusal(code);
  }
};

TEST_CASE("ReadReservedMemory: each node is a region, with what its properties say") {
  const LeakCheck leaks;
  Tree tree(2, 2);
  tree.Node("linux,cma");
  tree.Write("linux,cma/compatible", Text("shared-dma-pool"));
  tree.Write("linux,cma/reusable", "");
  tree.Write("linux,cma/linux,cma-default", "");
  tree.Write("linux,cma/size", Cells({0, 0x10000000}));
  tree.Write("linux,cma/alignment", Cells({0, 0x400000}));
  tree.Node("frames@100000000");
  tree.Write("frames@100000000/reg", Cells({1, 0, 0, 0x2000000}));
  tree.Write("frames@100000000/compatible", Text("acme,v2-frames") + Text("acme,frames"));
  tree.Write("frames@100000000/no-map", "");
  tree.Node("old@1000");
  tree.Write("old@1000/status", Text("disabled"));

  const auto regions = tree.Read();
  REQUIRE(regions.ok());
  REQUIRE(regions->size() == 2);
  const ReservedRegion& frames = (*regions)[0];
  CHECK(frames.name == "frames@100000000");
  CHECK(frames.base == 0x100000000);
  CHECK(frames.bytes == 0x2000000);
  CHECK(frames.no_map);
  CHECK_FALSE(frames.reusable);
  CHECK(frames.IsCompatible("acme,frames"));
  CHECK_FALSE(frames.IsCompatible("acme"));
  const ReservedRegion& cma = (*regions)[1];
  CHECK(cma.base == 0);
  CHECK(cma.bytes == 0x10000000);
  CHECK(cma.alignment == 0x400000);
  CHECK((cma.reusable && cma.cma_default && !cma.no_map));
}

TEST_CASE("ReadReservedMemory: a node that says it is okay is read, and an empty tree is empty") {
  const LeakCheck leaks;
  TreeOfOne tree;
  tree.Write("gpu@30000000/status", Text("okay"));
  REQUIRE(tree.Read().ok());
  CHECK(tree.Read()->size() == 1);
  CHECK(Tree().Read()->empty());
}

TEST_CASE("ReadReservedMemory: without its directory it is ENOENT") {
  const LeakCheck leaks;
  const TempDir dir;
  CHECK(ErrnoOf(ReadReservedMemory(dir.At("absent")).status()) == ENOENT);
  CHECK(ErrnoOf(ReadReservedMemory(dir.File("file")).status()) == ENOTDIR);
}

TEST_CASE("ReadReservedMemory: its cells have to be there, and be 1 or 2") {
  for (const char* property : {"#address-cells", "#size-cells"}) {
    Tree tree;
    const std::string at = std::string("device tree reserved-memory/") + property;
    for (const uint32_t cells : {0u, 3u, 0x01000000u, UINT32_MAX}) {
      tree.Write(property, Cells({cells}));
      CHECK(tree.Refusal(EINVAL) == at + ": not 1 or 2 cells: EINVAL");
    }
    tree.Write(property, "abc");
    CHECK(tree.Refusal(EINVAL) == at + ": 3 bytes in place of 4: EINVAL");
    std::filesystem::remove(tree.At(property));
    CHECK(tree.Refusal(EINVAL) == at + ": it has to be there: EINVAL");
  }
}

TEST_CASE("ReadReservedMemory: addresses that need translation are refused") {
  Tree tree;
  tree.Write("ranges", Cells({0, 0x80000000, 0x1000}));
  CHECK(tree.Refusal(ENOTSUP) ==
        "device tree reserved-memory/ranges: addresses that need translation: EOPNOTSUPP");
}

TEST_CASE(
    "ReadReservedMemory: a reg that is cut off, too long, or absurd names node and property") {
  const std::string at = "device tree gpu@30000000/reg: ";
  for (const size_t bytes : {0, 1, 4, 7, 9, 16, 4096}) {
    CHECK(TreeOfOne().RefusalOf("reg", std::string(bytes, 'x')) ==
          at + std::to_string(bytes) + " bytes in place of 8: EINVAL");
  }
  CHECK(TreeOfOne().RefusalOf("reg", std::string(4097, 'x'), EFBIG) ==
        at + "longer than 4096 bytes: EFBIG");
  CHECK(TreeOfOne().RefusalOf("reg", Cells({0x30000000, 0})) == at + "a region of 0 bytes: EINVAL");
  Tree wide(2, 2);
  wide.Node("x");
  wide.Write("x/reg", Cells({UINT32_MAX, 0xfffff000, 0, 0x2000}));
  CHECK(wide.Refusal(EINVAL) == "device tree x/reg: its end is past 64 bits: EINVAL");
  wide.Write("x/reg", Cells({UINT32_MAX, 0xfffff000, 0, 0x1000}));  // up to the last byte
  CHECK(wide.Read().ok());
}

TEST_CASE("ReadReservedMemory: other properties that are wrong name node and property") {
  const std::string at = "device tree gpu@30000000/";
  CHECK(TreeOfOne().RefusalOf("compatible", "no end") ==
        at + "compatible: a text without its end: EINVAL");
  CHECK(TreeOfOne().RefusalOf("alignment", Cells({3})) ==
        at + "alignment: not a power of two: EINVAL");
  CHECK(TreeOfOne().RefusalOf("size", "abcde") == at + "size: 5 bytes in place of 4: EINVAL");
  CHECK(TreeOfOne().RefusalOf("status", "okay") == at + "status: a text without its end: EINVAL");
  TreeOfOne both;
  both.Write("gpu@30000000/reusable", "");
  CHECK(both.RefusalOf("no-map", "") == at + "no-map: a region that is reusable is mapped: EINVAL");
  Tree none;
  none.Node("x");
  CHECK(none.Refusal(EINVAL) == "device tree x/reg: neither reg nor size: EINVAL");
}

TEST_CASE("ReadReservedMemory: a link that is swapped in while it reads is never followed") {
  const LeakCheck leaks;
  TreeOfOne outside, tree;
  outside.Write("gpu@30000000/reg", Cells({0x66660000, 0x1000000}));
  const std::string node = tree.At("gpu@30000000"), away = outside.At("away");
  // As rename would exchange them: the node's directory goes away, and a link comes in its place.
  class Swapping : public LinuxSyscalls {
   public:
    explicit Swapping(std::function<void()>* swap) : swap_(swap) {}
    long Open(const char* path, int flags) const noexcept {
      return After(path, LinuxSyscalls::Open(path, flags));
    }
    long OpenAt(int fd, const char* name, int flags) const noexcept {
      return After(name, LinuxSyscalls::OpenAt(fd, name, flags));
    }

   private:
    long After(std::string_view opened, long answer) const noexcept {
      if (opened.ends_with("gpu@30000000")) (*swap_)();
      return answer;
    }
    std::function<void()>* swap_;
  };
  std::function<void()> swap = [&] {
    std::filesystem::rename(node, away);
    std::filesystem::create_symlink(outside.At("gpu@30000000"), node);
  };
  const auto regions = ReadReservedMemory(tree.At(""), Swapping(&swap));
  REQUIRE(regions.ok());
  REQUIRE(regions->size() == 1);
  CHECK((*regions)[0].base == 0x30000000);
}

TEST_CASE("ReadReservedMemory: each system call that fails is a Status, and nothing is leaked") {
  const LeakCheck leaks;
  TreeOfOne tree;
  const auto faults = std::make_shared<Faults>();
  faults->Begin({});
  REQUIRE(ReadReservedMemory(tree.At(""), FaultSyscalls(faults)).ok());
  const size_t calls = faults->trace().size();
  CHECK(faults->Count("openat") > 4);
  for (size_t n = 0; n < calls; ++n) {
    faults->Begin({.n = n, .code = EIO});
    const auto regions = ReadReservedMemory(tree.At(""), FaultSyscalls(faults));
    CAPTURE(faults->failed()->call);
    CHECK(ErrnoOf(regions.status()) == EIO);
  }
  faults->Begin({.interrupts = 2});
  CHECK(ReadReservedMemory(tree.At(""), FaultSyscalls(faults)).ok());
  faults->End();
}

TEST_CASE(
    "ReadReservedMemory: nothing but files and directories is read, and no link is followed") {
  TreeOfOne good;
  {
    TreeOfOne tree;
    std::filesystem::remove(tree.At("gpu@30000000/reg"));
    std::filesystem::create_symlink(good.At("gpu@30000000/reg"), tree.At("gpu@30000000/reg"));
    CHECK(tree.Refusal(ELOOP) ==
          "device tree gpu@30000000/reg: a symbolic link in place of a property: ELOOP");
  }
  {
    Tree tree;
    std::filesystem::create_symlink(good.At("gpu@30000000"), tree.At("gpu@30000000"));
    CHECK(tree.Refusal(ELOOP) ==
          "device tree gpu@30000000: a symbolic link in place of a node: ELOOP");
  }
  {
    TreeOfOne tree;
    REQUIRE(::mkfifo(tree.At("gpu@30000000/status").c_str(), 0600) == 0);
    CHECK(tree.Refusal(EINVAL) == "device tree gpu@30000000/status: not a file: EINVAL");
  }
  {
    TreeOfOne tree;
    tree.Node("gpu@30000000/compatible");
    CHECK(tree.Refusal(EINVAL) == "device tree gpu@30000000/compatible: not a file: EINVAL");
  }
}

TEST_CASE(
    "ReadReservedMemory: a name of odd bytes, or too long a one, is refused, and told in print") {
  const auto refusal = [](const std::string& name) {
    Tree tree;
    tree.Node(name);
    return tree.Refusal(EINVAL);
  };
  const std::string why = ": a name of more than 63 characters, or of other ones: EINVAL";
  CHECK(refusal("a\nb\xff") == "device tree a\\x0ab\\xff" + why);
  CHECK(refusal("with space") == "device tree with space" + why);
  CHECK(refusal(std::string(64, 'n')) == "device tree " + std::string(64, 'n') + why);
}

TEST_CASE("ReadReservedMemory: a directory without end is refused") {
  Tree tree;
  for (int i = 0; i < 300; ++i) tree.Write("property-" + std::to_string(i), "");
  CHECK(tree.Refusal(E2BIG) == "device tree reserved-memory: more than 256 entries: E2BIG");
}

// "dma 4 name base bytes", or what is wrong.
std::string Told(const ReservedRegion& region) {
  const absl::StatusOr<HeapSpec> spec = SpecOf(region, 4);
  if (!spec.ok()) return std::string(spec.status().message());
  CHECK(spec->id == HeapId{4});
  CHECK(spec->base == region.base);
  CHECK(spec->bytes == region.bytes);
  CHECK(CheckHeapTable({&*spec, 1}).ok());
  return std::string(HeapTypeName(spec->type)) + " " + std::string(spec->name.view());
}

TEST_CASE("SpecOf: a pool that CMA lends out is a dma heap of its kernel heap's name") {
  ReservedRegion region{.name = "vpu@40000000",
                        .compatible = {"shared-dma-pool"},
                        .base = 0x40000000,
                        .bytes = 0x1000000,
                        .reusable = true};
  CHECK(Told(region) == "dma vpu@40000000");
  region.base = 0;
  CHECK(Told(region) == "dma vpu@40000000");
  region.cma_default = true;
  CHECK(Told(region) == "dma default_cma_region");
}

TEST_CASE("SpecOf: other memory at an address is a carveout; the kernel's own is nobody's") {
  ReservedRegion region{.name = "frames@30000000", .base = 0x30000000, .bytes = 0x1000000};
  CHECK(Told(region) == "carveout frames@30000000");
  region.compatible = {"shared-dma-pool"};
  CHECK(Told(region) ==
        "device tree frames@30000000/compatible: a pool of the kernel's for one device, not for "
        "others: EBUSY");
  region.compatible = {};
  region.bytes = 100;
  CHECK(Told(region) ==
        "device tree frames@30000000/reg: a carveout is of whole 4096 bytes: EINVAL");
  region.base = 0;
  CHECK(Told(region) == "device tree frames@30000000/reg: a carveout needs an address: EINVAL");
  region.name = std::string(64, 'n');
  CHECK_FALSE(SpecOf(region, 4).ok());
}

}  // namespace
}  // namespace ion::platforms
