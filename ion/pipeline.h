// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/pipeline.h
//
// Pipeline: devices that are known when the program is compiled, and the heap that suits all of
// them, chosen by the compiler with the code of ion/choice.h. Devices that no heap suits do not
// compile: the error has a sentence for the field, and the types of the two devices.
//
// A device type has `static constexpr ion::PartyName kName` and `static constexpr ion::Constraints
// kConstraints`, or an array of them in its order of preference. A heap is an element of a constant
// array of HeapOffer or HeapSpec, or a type with a `kOffer` or a `kSpec` (each heap policy has
// one).
//
// Its assumptions of the heaps are checked when the program runs: ion/check_pipeline.h.
//
// Not for devices that are found at run time: ion/choice.h.
//
// Example:
//   struct Camera {
//     static constexpr ion::PartyName kName = "camera";
//     static constexpr ion::Constraints kConstraints{.segments_max = 1};
//   };
//   struct Npu {
//     static constexpr ion::PartyName kName = "npu";
//     static constexpr ion::Constraints kConstraints{.stride_multiple = 64};
//   };
//   static constexpr ion::HeapSpec kBoard[] = {
//       {.type = ion::HeapType::kSystem, .id = 0},
//       {.type = ion::HeapType::kDma, .id = 4, .name = "linux,cma"}};
//   using Preview = ion::Pipeline<Camera, Npu>;
//   static_assert(Preview::Over<kBoard>::kHeap == ion::HeapId{4});
//
// Cost: none at run time.
#ifndef ION_ION_PIPELINE_H_
#define ION_ION_PIPELINE_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>

#include "ion/choice.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/image_constraints.h"
#include "ion/merge.h"

namespace ion {

namespace internal {

template <class T>
concept HasConstraints =
    std::same_as<std::remove_cvref_t<decltype(T::kConstraints)>, Constraints> ||
    std::same_as<std::remove_cvref_t<decltype(T::kConstraints[0])>, Constraints>;
template <class T>
concept HasPartyName = std::same_as<std::remove_cvref_t<decltype(T::kName)>, PartyName>;

// The sets of a device type.
template <class T>
constexpr std::span<const Constraints> SetsOf() noexcept {
  if constexpr (std::same_as<std::remove_cvref_t<decltype(T::kConstraints)>, Constraints>) {
    return {&T::kConstraints, 1};
  } else {
    return std::span<const Constraints>(T::kConstraints);
  }
}

// A device type of a pipeline: one sentence for each rule.
template <class T>
struct PipelineDevice {
  static_assert(HasPartyName<T>,
                "ion: a device of a Pipeline needs its name: static constexpr ion::PartyName "
                "kName = \"camera\"");
  static_assert(HasConstraints<T>,
                "ion: a device of a Pipeline needs its demands: static constexpr ion::Constraints "
                "kConstraints, or an array of them");
  static constexpr Party kParty{T::kName, SetsOf<T>()};
};

// A heap of a list, as an offer, and its type if the list tells it.
constexpr HeapOffer AsOffer(const HeapOffer& offer) noexcept { return offer; }
constexpr HeapOffer AsOffer(const HeapSpec& spec) noexcept { return OfferOf(spec); }
constexpr std::optional<HeapType> TypeIn(const HeapOffer&) noexcept { return std::nullopt; }
constexpr std::optional<HeapType> TypeIn(const HeapSpec& spec) noexcept { return spec.type; }
template <class T>
concept HasOffer = std::same_as<std::remove_cvref_t<decltype(T::kOffer)>, HeapOffer>;
template <class T>
concept HasSpec = std::same_as<std::remove_cvref_t<decltype(T::kSpec)>, HeapSpec>;
template <class T>
constexpr HeapOffer OfferOfType() noexcept {
  static_assert(HasOffer<T> || HasSpec<T>,
                "ion: a heap of a Pipeline needs its guarantees: static constexpr ion::HeapOffer "
                "kOffer, or the ion::HeapSpec kSpec that each heap policy has");
  if constexpr (HasOffer<T>) {
    return T::kOffer;
  } else {
    return OfferOf(T::kSpec);
  }
}
template <class T>
constexpr std::optional<HeapType> TypeOfType() noexcept {
  if constexpr (HasOffer<T>) {
    return std::nullopt;
  } else {
    return TypeIn(T::kSpec);
  }
}

inline constexpr ChoiceOptions kUsualChoice{};

// Device A, and a value of it that is refused or that its own other value excludes.
template <Field kField, bool kHolds, class A>
struct DeviceIsSound {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  static_assert(kHolds || kField != Field::enumerator,                        \
                "ion: a device's own " #name " is refused, or its other demands exclude it");
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  static_assert(kHolds || kField != Field::kFormats,
                "ion: a device's own formats are refused: none, more than 64, or the format 0");
  static constexpr bool kOk = kHolds;
};

// Devices A and B, with demands that exclude each other: A's kField and B's kOther.
template <Field kField, Field kOther, bool kHolds, class A, class B>
struct DevicesCanShare {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  static_assert(kHolds || kField != Field::enumerator, "ion: " sentence);
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  static_assert(kHolds || kField != Field::kFormats,
                "ion: formats: the parties have no format and modifier in common");
  static constexpr bool kOk = kHolds;
};

// Devices A and B: a heap does not satisfy A's kField, and another one not B's kOther.
template <Field kField, Field kOther, bool kHolds, class A, class B>
struct SomeHeapSuits {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  static_assert(kHolds || kField != Field::enumerator,                        \
                "ion: no heap is known to satisfy all devices: the first one fails at " #name);
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  static constexpr bool kOk = kHolds;
};

// The sentence for a choice that failed, with the types at fault.
template <const Choice& kChoice, class... Devices>
struct PipelineCheck {
  template <size_t kPlace>
  using Device = std::tuple_element_t<kPlace, std::tuple<Devices...>>;
  using A = Device<kChoice.party_a>;
  using B = Device<kChoice.party_b>;
  using Kind = Problem::Kind;
  static constexpr Kind kProblem = kChoice.problem.kind;

  static_assert(kProblem != Kind::kNoHeaps, "ion: a Pipeline needs a heap");
  static_assert(kProblem != Kind::kTooManyHeaps, "ion: a Pipeline has at most 32 heaps");
  static_assert(kProblem != Kind::kOneHeapTwice, "ion: two heaps of a Pipeline have one id");
  static_assert(kProblem != Kind::kBadHeap,
                "ion: the alignment and the granule of a heap are powers of two, and it has at "
                "least one piece");
  static_assert(kProblem != Kind::kNoAlternative && kProblem != Kind::kTooManyAlternatives,
                "ion: a device of a Pipeline has 1 to 8 sets of demands");
  static_assert(kProblem != Kind::kTooManyCombinations,
                "ion: the sets of the devices of a Pipeline have at most 256 combinations");
  static constexpr bool kSound = kProblem != Kind::kValue && kProblem != Kind::kContradiction;
  static constexpr bool kShared = kChoice.outcome != Choice::Outcome::kConflict;
  static constexpr bool kSuited = kChoice.outcome != Choice::Outcome::kNoHeap;
  static constexpr Field kA = kChoice.conflict.a.field;
  static constexpr Field kB = kChoice.conflict.b.field;
  using Sound = DeviceIsSound<kChoice.problem.field, kSound, A>;
  using Shared = DevicesCanShare<kA, kB, kShared, A, B>;
  using Suited = SomeHeapSuits<kA, kB, kSuited, A, B>;
  static constexpr bool kOk = Sound::kOk && Shared::kOk && Suited::kOk && kProblem == Kind::kNone;
};

}  // namespace internal

// 1 to 16 devices that use the same buffers.
template <class... Devices>
struct Pipeline {
  static_assert(sizeof...(Devices) >= 1 && sizeof...(Devices) <= kMostParties,
                "ion: a Pipeline has 1 to 16 devices");
  static constexpr std::array<Party, sizeof...(Devices)> kParties = {
      internal::PipelineDevice<Devices>::kParty...};

  // The choice among offers, which may fail: for a program that has another way, and for heaps that
  // are known at run time.
  static constexpr Choice Among(std::span<const HeapOffer> offers,
                                const ChoiceOptions& options = {}) noexcept {
    return Choose(kParties, offers, options);
  }

  // The choice for a list of heaps, which does not compile if there is none.
  template <class Offers, const ChoiceOptions& kOptions = internal::kUsualChoice>
  struct Chosen {
    static constexpr std::span<const HeapOffer> kOffers = Offers::kOffers;  // as assumed
    static constexpr std::span<const std::optional<HeapType>> kTypes = Offers::kTypes;
    static constexpr Choice kChoice = Choose(kParties, kOffers, kOptions);
    static_assert(internal::PipelineCheck<kChoice, Devices...>::kOk);
    static constexpr HeapId kHeap = kChoice.best();                     // the best one
    static constexpr HeapMask kHeaps = kChoice.mask();                  // all that fit
    static constexpr ImageConstraints kImage = kChoice.merged.image();  // for the layout
    static constexpr uint64_t kBuffers = kChoice.merged.buffers();      // 0: no device tells
  };

 private:
  template <const auto& kHeaps>
  struct Listed {
    static constexpr auto kOffers = [] {
      std::array<HeapOffer, std::size(kHeaps)> offers{};
      for (size_t i = 0; i < offers.size(); ++i) offers[i] = internal::AsOffer(kHeaps[i]);
      return offers;
    }();
    static constexpr auto kTypes = [] {
      std::array<std::optional<HeapType>, std::size(kHeaps)> types{};
      for (size_t i = 0; i < types.size(); ++i) types[i] = internal::TypeIn(kHeaps[i]);
      return types;
    }();
  };
  template <class... Heaps>
  struct Typed {
    static constexpr std::array<HeapOffer, sizeof...(Heaps)> kOffers = {
        internal::OfferOfType<Heaps>()...};
    static constexpr std::array<std::optional<HeapType>, sizeof...(Heaps)> kTypes = {
        internal::TypeOfType<Heaps>()...};
  };

 public:
  // Over a constant array of HeapOffer or HeapSpec, and with options, which have static storage
  // duration.
  template <const auto& kHeaps, const ChoiceOptions& kOptions = internal::kUsualChoice>
  using Over = Chosen<Listed<kHeaps>, kOptions>;
  // Over heap types.
  template <class... Heaps>
  using On = Chosen<Typed<Heaps...>>;
};

}  // namespace ion

#endif  // ION_ION_PIPELINE_H_
