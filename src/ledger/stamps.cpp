// SPDX-License-Identifier: Apache-2.0
#include "ledger/stamps.h"

#include <algorithm>
#include <fmt/format.h>
#include <system_error>

#include "base/file.h"
#include "ledger/internal/files.h"
#include "ledger/limits.h"
#include "tlog/checkpoint.h"
#include "tlog/time_stamp.h"

namespace etalon::ledger {

namespace {

namespace fs = std::filesystem;

fs::path file_of(const fs::path& ledger_folder, std::uint64_t size, const char* extension) {
    return ledger_folder / "log" / "stamps" / fmt::format("{}.{}", size, extension);
}

}  // namespace

void keep_stamp(const fs::path& ledger_folder, const Stamp& stamp) {
    const fs::path response = file_of(ledger_folder, stamp.size, "tsr");
    if (fs::exists(response)) return;
    make_private_folder(response.parent_path());
    const fs::path checkpoint = file_of(ledger_folder, stamp.size, "checkpoint");
    const fs::path next = response.string() + ".next";
    write_file(checkpoint, stamp.checkpoint);
    write_file(next, stamp.response);
    sync_files({checkpoint, next});
    fs::rename(next, response);  // last: what has an answer is whole
    sync_folder(response.parent_path());
}

std::vector<std::uint64_t> stamped_sizes(const fs::path& ledger_folder) {
    std::vector<std::uint64_t> sizes;
    std::error_code error;
    const fs::directory_iterator files(ledger_folder / "log" / "stamps", error);
    for (const fs::directory_entry& entry : files) {
        const fs::path name = entry.path().filename();
        std::uint64_t size = 0;
        if (name.extension() == ".tsr" && tlog::parse_decimal(name.stem().string(), size)) {
            sizes.push_back(size);
        }
    }
    std::sort(sizes.begin(), sizes.end());
    return sizes;
}

Stamp read_stamp(const fs::path& ledger_folder, std::uint64_t size) {
    return {size, read_file(file_of(ledger_folder, size, "checkpoint"), tlog::kNoteBytesMax),
            read_file(file_of(ledger_folder, size, "tsr"), tlog::kTimeStampBytesMax)};
}

std::vector<std::uint64_t> stamps_for(const std::vector<std::uint64_t>& sizes, std::uint64_t first,
                                      std::uint64_t end) {
    const auto begin = std::upper_bound(sizes.begin(), sizes.end(), first);
    auto last = std::lower_bound(begin, sizes.end(), end);
    if (last != sizes.end()) ++last;
    const auto n = static_cast<std::size_t>(last - begin);
    const std::size_t step = (n + kBundleStampsMax - 1) / kBundleStampsMax;
    std::vector<std::uint64_t> chosen;
    for (std::size_t i = n; i > 0; i -= std::min(i, step))  // the last one is always there
        chosen.push_back(begin[static_cast<std::ptrdiff_t>(i) - 1]);
    std::reverse(chosen.begin(), chosen.end());
    return chosen;
}

std::optional<std::string_view> stamp_digits(std::string_view path) {
    constexpr std::string_view kStart = "stamps/";
    if (path.substr(0, kStart.size()) != kStart) return std::nullopt;
    path.remove_prefix(kStart.size());
    const std::string_view digits = path.substr(0, path.find('.'));
    const bool is_number = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
        return c >= '0' && c <= '9';
    });
    path.remove_prefix(digits.size());
    if (!is_number || (path != ".checkpoint" && path != ".tsr")) return std::nullopt;
    return digits;
}

}  // namespace etalon::ledger
