// SPDX-License-Identifier: Apache-2.0
#include "cli/program_parts.h"

#include <algorithm>
#include <filesystem>
#include <link.h>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"

namespace etalon::cli {

namespace {

namespace fs = std::filesystem;

std::string hash_of(const fs::path& path) {
    return to_hex(sha256(MappedFile(path).bytes()));
}

/// "72.1" of "libicudata.so.72.1".
std::string version_in(const std::string& name) {
    constexpr std::string_view kMark = ".so.";
    const std::size_t mark = name.find(kMark);
    return mark == std::string::npos ? "" : name.substr(mark + kMark.size());
}

/// One loaded object; the program itself and what the kernel maps have no file here.
int take_object(dl_phdr_info* info, std::size_t, void* parts) {
    std::error_code error;
    const fs::path path = fs::canonical(info->dlpi_name, error);
    if (error || info->dlpi_name[0] == '\0') return 0;
    const std::string name = path.filename().string();
    ProgramPart part{name, version_in(name), path.string(), ""};
    try {
        part.sha256 = hash_of(path);
    } catch (const Error&) {
        part.sha256.clear();  // it was removed or is not ours to read: said by its absence
    }
    static_cast<std::vector<ProgramPart>*>(parts)->push_back(std::move(part));
    return 0;
}

}  // namespace

ProgramPart this_program() {
    const fs::path path = fs::read_symlink("/proc/self/exe");
    return {"etalon", ETALON_VERSION, path.string(), hash_of("/proc/self/exe")};
}

std::vector<ProgramPart> this_programs_libraries() {
    std::vector<ProgramPart> parts;
    ::dl_iterate_phdr(take_object, &parts);
    std::sort(parts.begin(), parts.end(),
              [](const ProgramPart& a, const ProgramPart& b) { return a.name < b.name; });
    std::string_view rest = ETALON_HEADER_LIBRARIES;  // "Boost 1.81.0,CLI11 2.1.2"
    while (!rest.empty()) {
        const std::string_view item = rest.substr(0, rest.find(','));
        const std::size_t space = item.find(' ');
        parts.push_back({std::string(item.substr(0, space)),
                         space == item.npos ? "" : std::string(item.substr(space + 1)), "", ""});
        rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    }
    return parts;
}

}  // namespace etalon::cli
