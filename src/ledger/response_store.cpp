// SPDX-License-Identifier: Apache-2.0
// A file: one line, a JSON object in the form of docs/ledger.md section 2, then the wrapped key,
// whose size follows from the number of subjects, then the ciphertext.
#include "ledger/response_store.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/internal/files.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/record.h"
#include "ledger/seal.h"

namespace etalon::ledger {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kResponseIdStart = "resp_";
constexpr std::size_t kIdRandomDigits = 24;
constexpr std::uint64_t kResponseVersion = 1;
constexpr std::uint64_t kDaySeconds = 86400;
constexpr const char* kDraft = ".new";
/// A draft is written, synced and named within seconds; one so old is what a crash left.
constexpr std::uint64_t kDraftSeconds = 3600;
/// Whoever asks at the limit again and again makes the server look at the files once a minute.
constexpr std::uint64_t kRecountSeconds = 60;
constexpr std::size_t kResponseFileBytesMax = kStoredContentBytesMax + (64 << 10);

constexpr std::size_t wrapped_bytes(std::size_t n_subjects) {
    return sizeof(Key::bytes) + (1 + n_subjects) * (kGcmNonceBytes + kGcmTagBytes);
}

std::string head_line(const ResponseHead& head) {
    return Members()
        .add("id", head.id)
        .add("intent", head.intent)
        .add("made", head.made)
        .add("subjects", head.subjects)
        .add("v", kResponseVersion)
        .text();
}

ResponseHead parse_head(std::string_view line) {
    const Object object = parse_object(line);
    Taker taker(object, "stored response");
    taker.integer("v", kResponseVersion, kResponseVersion);
    ResponseHead head;
    head.id = taker.text("id");
    if (!is_response_id(head.id)) taker.refuse("id", "is none");
    head.intent = taker.integer("intent");
    head.made = taker.integer("made");
    for (const Value& value : taker.array("subjects")) {
        const auto* id = std::get_if<std::string>(&value.content);
        if (id == nullptr || !is_hex(*id, kIdDigits)) taker.refuse("subjects", "has no id");
        head.subjects.push_back(*id);
    }
    if (head.subjects.empty() || head.subjects.size() > kSubjectsMax + 1) {
        taker.refuse("subjects", "are too many or none");
    }
    taker.end();
    return head;
}

/// What binds the content to its line and to the folder of its tenant.
std::string content_context(const fs::path& folder, const ResponseHead& head) {
    return fmt::format("etalon/response/v1\n{}\n{}\n", folder.filename().string(), head_line(head));
}

std::string key_context(const ResponseHead& head) {
    return fmt::format("etalon/response-key/v1\n{}\n", head.id);
}

Key read_or_make_key(const fs::path& path) {
    make_private_folder(path.parent_path());
    write_new_file(path, to_hex(random_key().bytes) + "\n");
    const std::string text = read_private_file(path, kNameBytesMax);
    return key_of_hex(std::string_view(text).substr(0, text.find('\n')));
}

/// Seconds since 1970; nullopt: it is not there.
std::optional<std::uint64_t> changed(const fs::path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return std::nullopt;
    return static_cast<std::uint64_t>(status.st_mtim.tv_sec);
}

std::string start_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes(kStoredHeadBytesMax, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
    return bytes;
}

/// The line of a file. nullopt: there is no such file any more.
std::optional<ResponseHead> read_head(const fs::path& path) {
    const std::string bytes = start_of(path);
    if (bytes.empty() && !changed(path)) return std::nullopt;
    const std::size_t end = bytes.find('\n');
    if (end == std::string::npos) throw Error(ExitCode::invalid, "this is no stored response");
    return parse_head(std::string_view(bytes).substr(0, end));
}

bool is_older(std::uint64_t time, std::uint64_t now, std::uint64_t seconds) {
    return now >= time && now - time >= seconds;
}

bool is_open(const Subjects& subjects, const StoredLimits& limits, const ResponseHead& head,
             std::uint64_t now) {
    return !is_older(head.made, now, limits.days * kDaySeconds) &&
           subjects.with_ids(head.subjects).has_value();
}

fs::path link_of(const fs::path& folder, std::uint64_t intent) {
    return folder / fmt::format("{}", intent);
}

/// The link goes first: what it names may be gone, what has none is still found by its id.
bool destroy(const fs::path& folder, const ResponseHead& head) {
    ::unlink(link_of(folder, head.intent).c_str());
    return destroy_file(folder / head.id);
}

std::size_t count_in(const fs::path& folder) {
    std::error_code gone;
    std::size_t n = 0;
    for (const auto& entry : fs::directory_iterator(folder, gone))
        n += is_response_id(entry.path().filename().string()) ? 1 : 0;
    return n;
}

/// nullopt: it is gone, or damaged; that may be the disk's fault, and is said to who asks for it.
std::optional<ResponseHead> readable_head(const fs::path& path) {
    try {
        return read_head(path);
    } catch (const Error& error) {
        if (error.code() != ExitCode::invalid) throw;
        return std::nullopt;
    }
}

std::size_t sweep_folder(const fs::path& folder, const Subjects& subjects,
                         const StoredLimits& limits, std::uint64_t now) {
    std::vector<fs::path> names;
    std::error_code gone;
    for (const auto& entry : fs::directory_iterator(folder, gone))
        names.push_back(entry.path());
    std::size_t n_swept = 0;
    for (const fs::path& path : names) {
        const std::string name = path.filename().string();
        if (is_response_id(name)) {
            const auto head = readable_head(path);
            if (!head || head->id != name || is_open(subjects, limits, *head, now)) continue;
            n_swept += destroy(folder, *head) ? 1 : 0;
            continue;
        }
        // A draft, or a link to one that was never named.
        const auto time = changed(path);
        const bool is_draft = path.extension() == kDraft;
        if (!time || !is_older(*time, now, kDraftSeconds)) continue;
        if (is_draft) destroy_file(path);
        if (!is_draft && !fs::exists(path, gone)) ::unlink(path.c_str());
    }
    return n_swept;
}

}  // namespace

struct ResponseStore::Counts {
    struct Tenant {
        bool is_known = false;
        std::uint64_t counted = 0;  ///< when
        std::uint64_t stored = 0;
        std::uint64_t reserved = 0;
    };
    std::mutex mutex;
    std::map<std::string, Tenant> tenants;  ///< by folder
};

bool is_response_id(std::string_view id) noexcept {
    return id.substr(0, kResponseIdStart.size()) == kResponseIdStart &&
           is_hex(id.substr(kResponseIdStart.size()), kIdRandomDigits);
}

SealedResponse parse_sealed_response(std::string_view bytes) {
    const std::size_t end = bytes.substr(0, kStoredHeadBytesMax).find('\n');
    if (end == std::string_view::npos) {
        throw Error(ExitCode::invalid, "this is no stored response");
    }
    SealedResponse response;
    response.head = parse_head(bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
    const std::size_t n_wrapped = wrapped_bytes(response.head.subjects.size());
    if (bytes.size() < n_wrapped) {
        throw Error(ExitCode::invalid, "the stored response is cut off");
    }
    response.wrapped = bytes.substr(0, n_wrapped);
    response.ciphertext = bytes.substr(n_wrapped);
    return response;
}

std::string sealed_response_text(const SealedResponse& response) {
    return head_line(response.head) + "\n" + response.wrapped + response.ciphertext;
}

ResponseStore::ResponseStore(const fs::path& ledger_folder, StoredLimits limits)
    : limits_(limits),
      subjects_(ledger_folder / "keys" / "subjects"),
      server_key_(read_or_make_key(ledger_folder / "keys" / "responses")),
      folder_(ledger_folder / "responses"),
      counts_(std::make_shared<Counts>()) {
    make_private_folder(folder_);
}

fs::path ResponseStore::folder_of(std::string_view tenant) const {
    const Sha256Digest mac = subjects_.mac(fmt::format("responses\n{}", tenant));
    return folder_ / to_hex(mac).substr(0, kIdDigits);
}

ResponseStore::Place ResponseStore::reserve(const std::string& tenant, std::uint64_t now) {
    struct Held {
        std::shared_ptr<Counts> counts;
        std::string folder;
        Held(std::shared_ptr<Counts> all, std::string name)
            : counts(std::move(all)), folder(std::move(name)) {}
        ~Held() {
            const std::lock_guard lock(counts->mutex);
            --counts->tenants.at(folder).reserved;
        }
        Held(const Held&) = delete;
        Held& operator=(const Held&) = delete;
    };
    const fs::path folder = folder_of(tenant);
    {
        const std::lock_guard lock(counts_->mutex);
        Counts::Tenant& count = counts_->tenants[folder.string()];
        const auto is_full = [&] { return count.stored + count.reserved >= limits_.responses; };
        const bool is_due = is_full() && is_older(count.counted, now, kRecountSeconds);
        if (!count.is_known || is_due) {
            if (is_due) sweep_folder(folder, subjects_, limits_, now);
            count.is_known = true;
            count.stored = count_in(folder);
            count.counted = now;
        }
        if (is_full()) return nullptr;
        ++count.reserved;
    }
    return std::make_shared<Held>(counts_, folder.string());
}

fs::path ResponseStore::write(const std::string& tenant, const ResponseHead& head,
                              const std::vector<Subject>& subjects, std::string_view content) {
    ETALON_ASSERT(is_response_id(head.id) && head.subjects.size() == subjects.size());
    if (content.size() > kStoredContentBytesMax) {
        throw Error(ExitCode::usage, fmt::format("a response of {} bytes, at most {} are stored",
                                                 content.size(), kStoredContentBytesMax));
    }
    const fs::path folder = folder_of(tenant);
    make_private_folder(folder);
    const Key key = random_key();
    SealedResponse sealed;
    sealed.head = head;
    sealed.wrapped = wrap_envelope(gcm_seal(server_key_, key_context(head), key.view()), subjects);
    sealed.ciphertext = gcm_seal(key, content_context(folder, head), content);
    fs::path draft = folder / (head.id + kDraft);
    write_file(draft, sealed_response_text(sealed));
    // The index of a record that a crash took back can be given again.
    const fs::path link = link_of(folder, head.intent);
    ::unlink(link.c_str());
    if (::symlink(head.id.c_str(), link.c_str()) != 0) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot make the link {}", printable(link.string())));
    }
    return draft;
}

void ResponseStore::publish(const std::vector<fs::path>& drafts) {
    std::map<fs::path, std::uint64_t> folders;
    for (const fs::path& draft : drafts) {
        std::error_code error;
        fs::rename(draft, draft.parent_path() / draft.stem(), error);
        if (error) {
            throw Error(ExitCode::failure, fmt::format("cannot name {}: {}",
                                                       printable(draft.string()), error.message()));
        }
        ++folders[draft.parent_path()];
    }
    for (const auto& [folder, n_stored] : folders) {
        sync_folder(folder);
        const std::lock_guard lock(counts_->mutex);
        counts_->tenants[folder.string()].stored += n_stored;
    }
}

std::optional<SealedResponse> ResponseStore::read(const fs::path& path, std::uint64_t now) const {
    if (!changed(path)) return std::nullopt;
    try {
        SealedResponse sealed = parse_sealed_response(read_file(path, kResponseFileBytesMax));
        if (sealed.head.id != path.filename().string()) {
            throw Error(ExitCode::invalid, "a stored response has another one's name");
        }
        if (!is_open(subjects_, limits_, sealed.head, now)) return std::nullopt;
        return sealed;
    } catch (const Error& error) {
        if (error.code() == ExitCode::not_found) return std::nullopt;  // deleted meanwhile
        throw;
    }
}

std::optional<StoredResponse> ResponseStore::get(const std::string& tenant, const std::string& id,
                                                 std::uint64_t now) const {
    if (!is_response_id(id)) return std::nullopt;
    const fs::path folder = folder_of(tenant);
    const auto sealed = read(folder / id, now);
    if (!sealed) return std::nullopt;
    const auto subjects = subjects_.with_ids(sealed->head.subjects);
    if (!subjects) return std::nullopt;  // erased just now
    const std::string key_bytes = gcm_open(server_key_, key_context(sealed->head),
                                           unwrap_envelope(sealed->wrapped, *subjects));
    Key key;
    if (key_bytes.size() != key.bytes.size()) {
        throw Error(ExitCode::invalid, "the stored response holds no key");
    }
    std::copy(key_bytes.begin(), key_bytes.end(), key.bytes.begin());
    return StoredResponse{sealed->head,
                          gcm_open(key, content_context(folder, sealed->head), sealed->ciphertext)};
}

std::optional<ResponseHead> ResponseStore::find(const std::string& tenant, std::uint64_t intent,
                                                std::uint64_t now) const {
    const fs::path folder = folder_of(tenant);
    std::error_code none;
    const std::string id = fs::read_symlink(link_of(folder, intent), none).string();
    if (none || !is_response_id(id)) return std::nullopt;
    auto head = read_head(folder / id);
    const bool is_there =
        head && head->id == id && head->intent == intent && is_open(subjects_, limits_, *head, now);
    return is_there ? head : std::nullopt;
}

bool ResponseStore::remove(const std::string& tenant, const std::string& id, std::uint64_t now) {
    if (!is_response_id(id)) return false;
    const fs::path folder = folder_of(tenant);
    const auto sealed = read(folder / id, now);
    if (!sealed || !destroy(folder, sealed->head)) return false;
    const std::lock_guard lock(counts_->mutex);
    Counts::Tenant& count = counts_->tenants[folder.string()];
    count.stored -= std::min<std::uint64_t>(count.stored, 1);
    return true;
}

std::size_t sweep_responses(const fs::path& ledger_folder, const StoredLimits& limits,
                            std::uint64_t now) {
    const fs::path folder = ledger_folder / "responses";
    if (!fs::is_directory(folder)) return 0;
    const Subjects subjects(ledger_folder / "keys" / "subjects");
    std::size_t n_swept = 0;
    for (const auto& tenant : fs::directory_iterator(folder))
        n_swept += sweep_folder(tenant.path(), subjects, limits, now);
    return n_swept;
}

}  // namespace etalon::ledger
