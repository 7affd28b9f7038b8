// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/table.h"

#include <algorithm>
#include <cstdint>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/exchange_names.h"
#include "bench/lease_names.h"
#include "bench/text.h"
#include "bench/units.h"

namespace ion::bench {
namespace {

constexpr std::string_view kOurs = "ion::Pool";

struct Grid {
  std::vector<std::string> contenders;  // the fastest first
  std::vector<std::string_view> threads;
  std::map<std::pair<std::string, std::string_view>, const Figure*> cells;
};

template <class T>
void AddOnce(std::vector<T>& list, const T& item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}

const Figure* At(const Grid& grid, const std::string& contender, std::string_view threads) {
  const auto cell = grid.cells.find({contender, threads});
  return cell == grid.cells.end() ? nullptr : cell->second;
}

// A program that shuffles its benchmarks writes them shuffled.
void Sort(Grid& grid) {
  std::sort(grid.threads.begin(), grid.threads.end(), [](std::string_view a, std::string_view b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  });
  const auto key = [&](const std::string& contender) {
    const Figure* figure = At(grid, contender, grid.threads.front());
    const bool measured = figure != nullptr && figure->error.empty();
    return std::pair(!measured, measured ? figure->ns : 0.0);
  };
  std::sort(grid.contenders.begin(), grid.contenders.end(),
            [&](const std::string& a, const std::string& b) { return key(a) < key(b); });
}

Grid MakeGrid(const Results& results, std::string_view exchange) {
  Grid grid;
  for (const Figure& figure : results.figures) {
    const auto name = ParseExchangeName(figure.name);
    if (!name || name->exchange != exchange) continue;
    AddOnce(grid.contenders, name->contender);
    AddOnce(grid.threads, name->threads);
    grid.cells[{name->contender, name->threads}] = &figure;
  }
  if (!grid.cells.empty()) Sort(grid);
  return grid;
}

std::string Cell(const Grid& grid, const std::string& contender, std::string_view threads) {
  const Figure* figure = At(grid, contender, threads);
  if (figure == nullptr) return "-";
  if (!figure->error.empty()) return figure->error;
  const Figure* ours = At(grid, std::string(kOurs), threads);
  std::string cell = Fixed(figure->ns, figure->ns < 100 ? 2 : 0);
  if (ours == nullptr || ours->ns <= 0 || ours == figure) return cell;
  return Text(cell, " (", Fixed(figure->ns / ours->ns, 2), " x)");
}

std::string FormatGrid(const Exchange& exchange, const Grid& grid) {
  std::ostringstream text;
  text << "\n" << std::left << std::setw(28) << exchange.title << std::right;
  for (const std::string_view threads : grid.threads) {
    text << std::setw(18) << Text(threads, threads == "1" ? " thread" : " threads");
  }
  text << "\n";
  for (const std::string& contender : grid.contenders) {
    text << std::left << std::setw(28) << contender << std::right;
    for (const std::string_view threads : grid.threads) {
      text << std::setw(18) << Cell(grid, contender, threads);
    }
    text << "\n";
  }
  return text.str();
}

bool InLeases(const LeaseName& name) { return !name.lease.starts_with("Camera"); }

std::string LeaseCell(const Figure& figure) {
  if (!figure.error.empty() || figure.ns <= 0) return "-";
  return Text(TimeText(figure.ns), figure.label.empty() ? "" : " ", figure.label);
}

std::string FormatLeases(const Results& results) {
  std::set<uint64_t> sizes;
  std::map<std::string, std::map<std::string_view, std::map<uint64_t, std::string>>> memories;
  for (const Figure& figure : results.figures) {
    const auto name = ParseLeaseName(figure.name);
    if (!name || !InLeases(*name)) continue;
    sizes.insert(name->bytes);
    memories[name->memory][name->lease][name->bytes] = LeaseCell(figure);
  }
  std::ostringstream text;
  for (const auto& [memory, leases] : memories) {
    text << "\n" << std::left << std::setw(28) << memory << std::right;
    for (const uint64_t bytes : sizes) text << std::setw(18) << SizeText(bytes);
    text << "\n";
    for (const std::string_view lease : kLeases) {
      const auto line = leases.find(lease);
      if (line == leases.end()) continue;
      text << std::left << std::setw(28) << lease << std::right;
      for (const uint64_t bytes : sizes) {
        const auto cell = line->second.find(bytes);
        text << std::setw(18) << (cell == line->second.end() ? "-" : cell->second);
      }
      text << "\n";
    }
  }
  return text.str();
}

std::string FormatOthers(const Results& results) {
  std::ostringstream text;
  for (const Figure& figure : results.figures) {
    if (ParseExchangeName(figure.name)) continue;
    const auto lease = ParseLeaseName(figure.name);
    if (lease && InLeases(*lease)) continue;
    const std::string name = figure.name.substr(0, figure.name.find("/iterations:"));
    const auto line = [&](const std::string& what, const std::string& value) {
      text << "\n" << std::left << std::setw(48) << what << std::right << " " << value;
    };
    line(name, figure.error.empty() ? Text(Fixed(figure.ns, 0), " ns") : figure.error);
    for (const auto& [counter, value] : figure.counters) {
      line(Text("    ", counter), Fixed(value, 2));
    }
  }
  return text.str().empty() ? "" : text.str() + "\n";
}

}  // namespace

std::string FormatMachine(const Results& results) {
  std::ostringstream text;
  for (const auto& [key, label] :
       {std::pair("cpu_model", "processor"), std::pair("kernel", "kernel"),
        std::pair("compiler", "compiler"), std::pair("load", "load")}) {
    const auto value = results.context.find(key);
    if (value == results.context.end()) continue;
    text << std::left << std::setw(12) << label << value->second << "\n";
  }
  return text.str();
}

std::string FormatTable(const Results& results) {
  std::ostringstream text;
  text << FormatMachine(results);
  text << "CPU time, medians, in ns where no unit stands; in brackets: times " << kOurs << "\n";
  for (const Exchange& exchange : kExchanges) {
    const Grid grid = MakeGrid(results, exchange.id);
    if (!grid.contenders.empty()) text << FormatGrid(exchange, grid);
  }
  text << FormatLeases(results) << FormatOthers(results);
  return text.str();
}

}  // namespace ion::bench
