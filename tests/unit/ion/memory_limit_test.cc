// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// How much memory a process can have, by what the kernel tells of its cgroups. Real groups are in
// tests/scenarios/cgroup_test.cc.

#include "ion/base/memory_limit.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/memory_groups.h"
#include "tests/support/fake_groups.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/moved_files.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

TEST_CASE("MemoryLimit: without a cgroup it is the machine's RAM") {
  const LeakCheck leaks;
  FakeGroups machine;
  SUBCASE("no hierarchy is mounted") {}
  SUBCASE("no /proc") {
    machine.NoProc("cgroup");
    machine.NoProc("mountinfo");
  }
  SUBCASE("the group has no limit") {
    machine.Proc("cgroup", "0::/a\n");
    machine.Proc("mountinfo", machine.V2("/", "/cg"));
    machine.Group("/cg/a", "memory.max", "max\n");
    machine.Group("/cg/a", "memory.high", "max\n");
  }
  SUBCASE("the limit is larger") {
    machine.Proc("cgroup", "0::/a\n");
    machine.Proc("mountinfo", machine.V2("/", "/cg"));
    machine.Group("/cg/a", "memory.max", "4294967296\n");
  }
  SUBCASE("version 1 writes none as a number") {
    machine.Proc("cgroup", "4:memory:/a\n");
    machine.Proc("mountinfo", machine.V1("/", "/cg"));
    machine.Group("/cg/a", "memory.limit_in_bytes", "9223372036854771712\n");
  }
  CHECK(machine.Limit() == FakeGroups::kRam);
}

TEST_CASE("MemoryLimit: it is the smallest limit of the group and its ancestors, version 2") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "0::/a/b/c\n");
  machine.Proc("mountinfo", machine.V2("/", "/cg"));
  machine.Group("/cg/a", "memory.max", "536870912\n");
  machine.Group("/cg/a/b", "memory.max", "536870912\n");
  machine.Group("/cg/a/b/c", "memory.max", "536870912\n");
  CHECK(machine.Limit() == 512_MiB);
  SUBCASE("its own") { machine.Group("/cg/a/b/c", "memory.max", "134217728\n"); }
  SUBCASE("its parent's") { machine.Group("/cg/a/b", "memory.max", "134217728\n"); }
  SUBCASE("the outermost") { machine.Group("/cg/a", "memory.max", "134217728\n"); }
  SUBCASE("of the mount's root, as a container sees its own") {
    machine.Group("/cg", "memory.max", "134217728\n");
  }
  SUBCASE("from where takers are held up") { machine.Group("/cg/a", "memory.high", "134217728\n"); }
  SUBCASE("no newline") { machine.Group("/cg/a", "memory.max", "134217728"); }
  CHECK(machine.Limit() == 128_MiB);
}

TEST_CASE("MemoryLimit: it is the smallest limit of the group and its ancestors, version 1") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "7:cpu,cpuacct:/x\n4:name=memory:/y\n3:hugetlb,memory:/a/b\n0::/z\n");
  machine.Proc("mountinfo", "29 23 0:25 / " + machine.root() +
                                "/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
                                machine.V1("/", "/cg"));
  machine.Group("/cg/a", "memory.limit_in_bytes", "536870912\n");
  machine.Group("/cg/a/b", "memory.limit_in_bytes", "536870912\n");
  machine.Group("/cpu/x", "memory.limit_in_bytes", "1\n");
  CHECK(machine.Limit() == 512_MiB);
  uint64_t expected = 128_MiB;
  SUBCASE("its own") { machine.Group("/cg/a/b", "memory.limit_in_bytes", "134217728\n"); }
  SUBCASE("its parent's") { machine.Group("/cg/a", "memory.limit_in_bytes", "134217728\n"); }
  SUBCASE("its parent's, which does not count for it") {
    machine.Group("/cg/a", "memory.limit_in_bytes", "134217728\n");
    machine.Group("/cg/a", "memory.use_hierarchy", "0\n");
    expected = 512_MiB;
  }
  SUBCASE("an ancestor's that no mount shows") {
    machine.Group("/cg/a/b", "memory.stat",
                  "cache 1\nrss 2\nhierarchical_memory_limit 134217728\ntotal_cache 1\n");
  }
  CHECK(machine.Limit() == expected);
}

TEST_CASE("MemoryLimit: where both versions are mounted each counts") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "4:memory:/a\n0::/b\n");
  machine.Proc("mountinfo", machine.V2("/", "/unified") + machine.V1("/", "/memory"));
  machine.Group("/unified/b", "cgroup.procs", "");  // no controller of memory
  machine.Group("/memory/a", "memory.limit_in_bytes", "134217728\n");
  CHECK(machine.Limit() == 128_MiB);
  machine.Group("/unified/b", "memory.max", "67108864\n");
  CHECK(machine.Limit() == 64_MiB);
}

TEST_CASE("MemoryLimit: a mount shows the groups below its own root") {
  const LeakCheck leaks;
  struct Row {
    std::string group, root;
    std::string seen;  // where the group's limit is found, below the mount; "-": nowhere
  };
  for (const Row& row : {
           Row{"/docker/x", "/docker/x", ""},
           Row{"/docker/x/y", "/docker/x", "/y"},
           Row{"/docker/xy", "/docker/x", "-"},
           Row{"/docker", "/docker/x", "-"},
           Row{"/", "/", ""},
           Row{"/../b", "/..", "/b"},
           Row{"/../../b/c", "/../..", "/b/c"},
           Row{"/../../b/c", "/../../b", "/c"},
           Row{"/../b", "/", "-"},  // the mount shows the namespace, and we are outside
           Row{"/", "/..", ""},     // an ancestor of ours; the group between has no name here
           Row{"/a", "/../..", ""},
           Row{"/a", "/../b", "-"},
           Row{"/../..", "/../..", ""},
           Row{"/..a", "/", "/..a"},
           Row{"/a/../../etc", "/", "-"},  // no kernel writes this
           Row{"/a/..", "/", "-"},
       }) {
    CAPTURE(row.group);
    CAPTURE(row.root);
    FakeGroups machine;
    machine.Proc("cgroup", "0::" + row.group + "\n");
    machine.Proc("mountinfo", machine.V2(row.root, "/cg"));
    machine.Group("/cg", "memory.high", "536870912\n");
    if (row.seen != "-") machine.Group("/cg" + row.seen, "memory.max", "134217728\n");
    CHECK(machine.Limit() == (row.seen == "-" ? FakeGroups::kRam : 128_MiB));
  }
}

TEST_CASE("MemoryLimit: names are taken as they are escaped") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "0::/a b\\c/d:e\n");
  machine.Proc("mountinfo", machine.V2("/a\\040b\\134c", "/c\\040g"));
  machine.Group("/c g/d:e", "memory.max", "134217728\n");
  CHECK(machine.Limit() == 128_MiB);
}

TEST_CASE("MemoryLimit: what cannot be read is unknown, and not a limit of 0") {
  const LeakCheck leaks;
  for (const std::string_view text :
       {"", "\n", "-1\n", "max", "99999999999999999999999999\n", "12 34\n", "0x1000\n", "1.5\n",
        " 5\n", "5\n\n", "\xff\xfe", "+5\n"}) {
    CAPTURE(text);
    FakeGroups machine;
    machine.Proc("cgroup", "0::/a/b\n");
    machine.Proc("mountinfo", machine.V2("/", "/cg"));
    machine.Group("/cg/a/b", "memory.max", text);
    CHECK(machine.Limit() == FakeGroups::kRam);
    machine.Group("/cg/a", "memory.max", "134217728\n");
    CHECK(machine.Limit() == 128_MiB);  // its parent's can be
  }
  FakeGroups machine;
  machine.Proc("cgroup", "0::/a\n");
  machine.Proc("mountinfo", machine.V2("/", "/cg"));
  machine.Group("/cg/a", "memory.max", "0\n");
  CHECK(machine.Limit() == 0);  // somebody meant it
}

TEST_CASE("MemoryLimit: odd, long and endless files do no harm") {
  const LeakCheck leaks;
  FakeGroups machine;
  const std::string good = machine.V2("/", "/cg");
  const std::string deep = "/" + std::string(300, 'd');
  machine.Proc("cgroup", "0::/a\n");
  machine.Group("/cg/a", "memory.max", "134217728\n");
  uint64_t expected = 128_MiB;
  SUBCASE("lines that say nothing") {
    machine.Proc("mountinfo", "\n\n - \n- - -\n30\n1 2 3 4 5 - cgroup2\n" + good);
  }
  SUBCASE("lines longer than any buffer") {
    machine.Proc("mountinfo", std::string(100'000, 'x') + "\n" + good);
  }
  SUBCASE("a path longer than a path can be") {
    machine.Proc("mountinfo", machine.V2("/", "/" + std::string(5000, 'p')) + good);
  }
  SUBCASE("a root longer than a path can be") {
    machine.Proc("mountinfo", machine.V2("/" + std::string(5000, 'p'), "/cg") + good);
  }
  SUBCASE("a mount of something else there") {
    machine.Proc("mountinfo", "30 23 0:26 / " + machine.root() + " rw - tmpfs cgroup2 rw\n" + good);
  }
  SUBCASE("cut in the middle of a line") {
    machine.Proc("mountinfo", good.substr(0, good.size() - 1));
    expected = FakeGroups::kRam;
  }
  SUBCASE("more mounts than anybody has") {
    std::string many;
    for (int i = 0; i < 2000; ++i) many += machine.V2("/", "/absent");
    machine.Proc("mountinfo", good + many);
  }
  SUBCASE("a name longer than a path can be") {
    machine.Proc("cgroup", "0::/" + std::string(5000, 'n') + "\n0::/a\n");
    machine.Proc("mountinfo", good);
  }
  SUBCASE("a group too deep for its file's path") {
    std::string path;
    while (path.size() + deep.size() < 4090 - machine.root().size()) path += deep;
    machine.Proc("cgroup", "0::/a" + path + "\n");
    machine.Proc("mountinfo", good);
  }
  SUBCASE("zeros") {
    machine.Proc("cgroup", std::string_view("0::/a\0b\n", 8));
    machine.Proc("mountinfo", std::string(10'000, '\0') + "\n" + good);
    expected = FakeGroups::kRam;
  }
  CHECK(machine.Limit() == expected);
}

TEST_CASE("MemoryLimit: an endless /proc is left") {
  const LeakCheck leaks;
  Moved moved;
  moved.ram = FakeGroups::kRam;
  moved.to["/proc/self/mountinfo"] = "/dev/zero";
  moved.to["/proc/self/cgroup"] = "/dev/zero";
  const Result<MemoryLimit> limit = MemoryLimit::Read("test", MovedFiles(&moved));
  REQUIRE(limit.ok());
  CHECK(limit->bytes == FakeGroups::kRam);
}

TEST_CASE("MemoryLimit: each call may fail, and the rest still counts") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  const FaultSyscalls sys(faults);
  faults->Begin({});
  const Result<MemoryLimit> whole = MemoryLimit::Read("test", sys);
  REQUIRE(whole.ok());
  const size_t calls = faults->trace().size();
  for (size_t n = 0; n < calls; ++n) {
    CAPTURE(n);
    faults->Begin({.n = n, .code = EIO});
    const Result<MemoryLimit> limit = MemoryLimit::Read("test", sys);
    REQUIRE(faults->failed().has_value());
    CHECK(limit.ok() == (faults->failed()->call != "sysinfo"));
    if (limit.ok()) CHECK(limit->bytes >= whole->bytes);
    if (!limit.ok()) CHECK(limit.error().code() == EIO);
  }
}

TEST_CASE("MemoryGroups: a group that the process is moved to is found") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "0::/a\n");
  machine.Proc("mountinfo", machine.V2("/", "/cg"));
  machine.Group("/cg/a", "memory.max", "134217728\n");
  machine.Group("/cg/b", "memory.max", "67108864\n");
  const auto groups = std::make_unique<MemoryGroups>();
  groups->Find(machine.sys());
  groups->FindAgainIfMoved(machine.sys());
  CHECK(groups->SmallestLimit(machine.sys()) == 128_MiB);
  machine.Proc("cgroup", "0::/b\n");
  groups->FindAgainIfMoved(machine.sys());
  CHECK(groups->SmallestLimit(machine.sys()) == 64_MiB);
  machine.NoProc("cgroup");
  groups->FindAgainIfMoved(machine.sys());
  CHECK(groups->SmallestLimit(machine.sys()) == 64_MiB);  // not told is not moved
}

TEST_CASE("MemoryGroups: a group without a limit is not one of those that have one") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "1:memory:/a\n0::/b\n");
  machine.Proc("mountinfo", machine.V1("/", "/1") + machine.V2("/", "/2"));
  machine.Group("/1/a", "memory.limit_in_bytes", "9223372036854771712\n");
  machine.Group("/1/a", "memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
  machine.Group("/2/b", "memory.max", "max\n");
  const auto groups = std::make_unique<MemoryGroups>();
  groups->Find(machine.sys());
  groups->ForEachLimited(machine.sys(), [](const MemoryGroups::Level& level) {
    FAIL_CHECK(std::string(level.directory), " has a limit of ", level.limit_bytes);
  });
}

TEST_CASE("MemoryGroups: file pages are what a group can still give") {
  const LeakCheck leaks;
  FakeGroups machine;
  for (const bool v2 : {true, false}) {
    CAPTURE(v2);
    machine.Proc("cgroup", v2 ? "0::/a\n" : "1:memory:/a\n");
    machine.Proc("mountinfo", v2 ? machine.V2("/", "/2") : machine.V1("/", "/1"));
    const std::string group = v2 ? "/2/a" : "/1/a";
    machine.Group(group, v2 ? "memory.max" : "memory.limit_in_bytes", "1000\n");
    machine.Group(group, v2 ? "memory.current" : "memory.usage_in_bytes", "900\n");
    machine.Group(group, "memory.stat",
                  v2 ? "anon 7\ninactive_file 100\nactive_file 50\nshmem 700\n"
                     : "inactive_file 9\nactive_file 9\ntotal_inactive_file 100\n"
                       "total_active_file 50\n");
    const auto groups = std::make_unique<MemoryGroups>();
    groups->Find(machine.sys());
    size_t levels = 0;
    groups->ForEachLimited(machine.sys(), [&](const MemoryGroups::Level& level) {
      ++levels;
      const auto enough = MemoryGroups::UsageOf(machine.sys(), level, 100);
      REQUIRE(enough.has_value());
      CHECK(enough->used_bytes == 900);
      CHECK(enough->reclaimable_bytes == 0);  // not asked for
      const auto short_of = MemoryGroups::UsageOf(machine.sys(), level, 101);
      REQUIRE(short_of.has_value());
      CHECK(short_of->reclaimable_bytes == 150);
    });
    CHECK(levels == 1);
    machine.Group(group, "memory.stat",
                  "inactive_file 18446744073709551615\nactive_file 18446744073709551615\n"
                  "total_inactive_file 800\ntotal_active_file 800\n");
    groups->ForEachLimited(machine.sys(), [&](const MemoryGroups::Level& level) {
      const auto usage = MemoryGroups::UsageOf(machine.sys(), level, 1000);
      REQUIRE(usage.has_value());
      CHECK(usage->reclaimable_bytes == 900);  // no more than is used
    });
  }
}

TEST_CASE("BackendBase: without a budget of the user's the bound is half of the limit") {
  const LeakCheck leaks;
  FakeGroups machine;
  machine.Proc("cgroup", "0::/a\n");
  machine.Proc("mountinfo", machine.V2("/", "/cg"));
  machine.Group("/cg/a", "memory.max", "134217728\n");
  const auto backend = MemfdBackend<MovedFiles>::Open({.sys = machine.sys()});
  REQUIRE(backend.ok());
  CHECK(backend->budget().limit() == 64_MiB);
}

}  // namespace
}  // namespace ion::testing
