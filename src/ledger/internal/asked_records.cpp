// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/asked_records.h"

#include "base/error.h"
#include "ledger/internal/crypto.h"
#include "ledger/internal/files.h"
#include "ledger/json.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

bool may_be_asked(const Body& body) {
    return std::holds_alternative<LogRead>(body) || std::holds_alternative<ContentRead>(body) ||
           std::holds_alternative<EraseRefused>(body) || std::holds_alternative<ApiKey>(body) ||
           std::holds_alternative<Licence>(body) || std::holds_alternative<Replay>(body) ||
           std::holds_alternative<Review>(body);
}

std::vector<Body> parse(std::string_view text) {
    std::vector<Body> records;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return {};
        Body body = parse_record(text.substr(0, end)).body;
        if (!may_be_asked(body)) return {};
        records.push_back(std::move(body));
        text.remove_prefix(end + 1);
    }
    return records;
}

}  // namespace

AskedRecords::AskedRecords(std::filesystem::path folder) : folder_(std::move(folder)) {
    make_private_folder(folder_);
}

std::filesystem::path AskedRecords::put(const std::vector<Body>& records) const {
    std::string text;
    for (const Body& body : records) {
        ETALON_ASSERT(may_be_asked(body));
        text += write_record({kIntegerMax, 0, 0, body});  // the writer knows the place
        text += '\n';
    }
    if (text.size() > kAskedBytesMax) {
        throw Error(ExitCode::usage, "too many records at once for the ledger");
    }
    const std::filesystem::path file = folder_ / random_id();
    write_new_file(file, text);
    return file;
}

std::vector<AskedRecords::Asked> AskedRecords::waiting() const {
    std::vector<Asked> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
        if (!is_hex(entry.path().filename().string(), kIdDigits)) continue;  // a draft
        Asked asked{entry.path(), {}};
        try {
            asked.records = parse(read_private_file(asked.file, kAskedBytesMax));
        } catch (const Error& error) {
            if (error.code() != ExitCode::invalid) throw;
        }
        all.push_back(std::move(asked));
    }
    return all;
}

}  // namespace etalon::ledger
