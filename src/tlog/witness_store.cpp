// SPDX-License-Identifier: Apache-2.0
#include "tlog/witness_store.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"

namespace etalon::tlog {

namespace {

constexpr const char* kFolder = "logs";

std::string path_of(const std::string& origin) {  // an origin may hold slashes
    return fmt::format("{}/{}", kFolder, to_hex(sha256(std::as_bytes(std::span(origin)))));
}

}  // namespace

WitnessStore::WitnessStore(Disk& disk, SigningKey key, const std::vector<VerifierKey>& logs)
    : disk_(disk), key_(std::move(key)) {
    disk_.make_folder(kFolder);
    for (const VerifierKey& log : logs) {
        Log known{log, path_of(log.name), {log.name, 0, empty_root()}};
        if (const auto text = disk_.read(known.path, kNoteBytesMax)) {
            known.last = parse_checkpoint(*text);
            if (known.last.origin != log.name) {
                throw Error(ExitCode::invalid,
                            fmt::format("{} is of another log", printable(known.path)));
            }
        }
        if (logs_.emplace(log.name, std::move(known)).second) continue;
        throw Error(ExitCode::usage, fmt::format("{} is named twice", printable(log.name)));
    }
}

WitnessAnswer WitnessStore::take(std::string_view body, std::int64_t now) {
    std::string origin;
    try {
        origin = parse_checkpoint(parse_note(parse_add_checkpoint(body).checkpoint).text).origin;
    } catch (const Error& error) {
        return {400, "text/plain; charset=utf-8", error.message() + "\n", std::nullopt};
    }
    const auto found = logs_.find(origin);
    if (found == logs_.end()) {
        return {404, "text/plain; charset=utf-8", "this witness does not know the log\n",
                std::nullopt};
    }
    Log& log = found->second;
    WitnessAnswer answer = add_checkpoint(body, log.key, log.last, key_, now);
    if (answer.remembered && *answer.remembered != log.last) remember(log, *answer.remembered);
    return answer;
}

void WitnessStore::remember(Log& log, const Checkpoint& checkpoint) {
    const std::string next = log.path + ".next";
    disk_.write(next, checkpoint.text());
    disk_.sync(next);
    disk_.rename(next, log.path);
    disk_.sync_folder(kFolder);
    log.last = checkpoint;
}

}  // namespace etalon::tlog
