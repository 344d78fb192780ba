// SPDX-License-Identifier: Apache-2.0
// What this program consists of, as the running process has it: for bills of materials.
#pragma once

#include <string>
#include <vector>

namespace etalon::cli {

struct ProgramPart {
    std::string name;     ///< "libcrypto.so.3"; "Boost"
    std::string version;  ///< of a library's file the digits of its name; may be empty
    std::string path;     ///< empty: it was compiled into the program
    std::string sha256;   ///< of that file; empty as well
};

/// The file of the program itself. Errors: those of MappedFile.
ProgramPart this_program();
/// The libraries that are loaded now, by name, then those of which only headers are used. A loaded
/// file that cannot be read any more has no hash.
std::vector<ProgramPart> this_programs_libraries();

}  // namespace etalon::cli
