// SPDX-License-Identifier: Apache-2.0
// What both directions of the code know of the schema beside what flatc generates from it.
#pragma once

#include <flatbuffers/flatbuffers.h>
#include <type_traits>

namespace etalon::wire {

/// File identifiers: four characters that name the direction of a frame.
inline constexpr const char* kToWorkerIdentifier = "EtlW";
inline constexpr const char* kToFrontIdentifier = "EtlF";

/// The schema's value of an enumeration of messages.h; both list the same names in the same order.
template <typename SchemaEnum, typename Enum>
SchemaEnum schema_value(Enum value) {
    static_assert(std::is_same_v<std::underlying_type_t<SchemaEnum>, std::underlying_type_t<Enum>>);
    return static_cast<SchemaEnum>(value);
}

/// Which member of a union a table is, by the traits that flatc generates for the union.
template <template <typename> class Traits, typename Table>
constexpr auto union_type(flatbuffers::Offset<Table>) {
    return Traits<Table>::enum_value;
}

}  // namespace etalon::wire
