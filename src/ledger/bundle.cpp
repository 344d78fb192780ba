// SPDX-License-Identifier: Apache-2.0
// Audit bundles: written from a ledger, verified from the folder alone.
#include "ledger/bundle.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <set>

#include "base/base64.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "ledger/commitment.h"
#include "ledger/internal/bundle_readme.h"
#include "ledger/internal/files.h"
#include "ledger/internal/log_key.h"
#include "ledger/internal/manifest.h"
#include "ledger/internal/record_checks.h"
#include "ledger/internal/sealed_answer.h"
#include "ledger/json.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"
#include "ledger/payload_store.h"
#include "ledger/seal.h"
#include "ledger/stamps.h"
#include "tlog/time_stamp.h"

namespace etalon::ledger {

namespace {

[[noreturn]] void refuse(int step, std::string_view why) {
    throw Error(ExitCode::invalid, fmt::format("step {}: {}", step, why));
}

/// What `check` refuses is refused as of this step.
template <typename Check>
auto at_step(int step, Check check) {
    try {
        return check();
    } catch (const Error& error) {
        if (error.message().rfind("step ", 0) == 0) throw;
        refuse(step, error.message());
    }
}

std::string payload_path(std::uint64_t intent, const char* extension) {
    return fmt::format("payloads/{}.{}", intent, extension);
}

/// SHA-256 of what a PEM file of one certificate holds; "" where a byte of it could be another one.
std::string pem_hash(std::string_view pem) {
    constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----\n";
    constexpr std::string_view kEnd = "-----END CERTIFICATE-----\n";
    constexpr std::size_t kLineDigits = 64;
    std::string digits;
    for (std::size_t i = std::min(kBegin.size(), pem.size()); i < pem.size(); ++i)
        if (pem[i] != '\n' && pem.size() - i > kEnd.size()) digits += pem[i];
    const std::optional<std::string> der = from_base64(digits);
    std::string again(kBegin);
    for (std::size_t i = 0; i < digits.size(); i += kLineDigits)
        again += digits.substr(i, kLineDigits) + '\n';
    return der && again + std::string(kEnd) == pem ? sha256_hex(*der) : "";
}

std::string_view text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string_view view_of(const Sha256Digest& digest) {
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

/// Tiles of level 0 of a tree of `size`; `take(path, first index, width)`.
template <typename Take>
void each_tile(std::uint64_t begin, std::uint64_t end, std::uint64_t size, Take take) {
    if (begin == end) return;
    for (std::uint64_t i = begin / tlog::kTileWidth; i <= (end - 1) / tlog::kTileWidth; ++i)
        take(i, tlog::tile_width(0, i, size));
}

/// --- writing ---

class Exporter {
  public:
    Exporter(const std::filesystem::path& ledger, const BundleRange& range,
             std::filesystem::path out, const EvidenceSource& evidence)
        : ledger_(ledger),
          range_(range),
          out_(std::move(out)),
          evidence_(evidence),
          files_(log_files(ledger)),
          key_(read_log_key(ledger)) {
        auto note = published_checkpoint(files_, key_.verifier(), range.end);
        if (!note) throw Error(ExitCode::not_found, "the ledger has no checkpoint yet");
        note_ = *std::move(note);
        checkpoint_ = tlog::open_checkpoint(tlog::parse_note(note_), key_.verifier());
        if (range.first > range.end || range.end > checkpoint_.size) {
            throw Error(ExitCode::usage,
                        fmt::format("records {} to {} are not in the log, which has {}",
                                    range.first, range.end, checkpoint_.size));
        }
    }

    BundleReport run() {
        if (std::filesystem::exists(out_)) {
            throw Error(ExitCode::usage,
                        fmt::format("{} is there already", printable(out_.string())));
        }
        make_private_folder(std::filesystem::absolute(out_));
        put("README.md", bundle_readme());
        put("policy.txt", own_policy_text(ledger_));
        put("log/checkpoint", note_);
        put_certificates();
        put_log();
        put_payloads();
        put_stamps();
        put_evidence();
        put_manifest();
        return {checkpoint_, range_, checks_.kinds(), checks_.n_unfinished(), n_payloads_};
    }

  private:
    void put(const std::string& path, std::string_view bytes) const {
        const std::filesystem::path file = out_ / path;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream stream(file, std::ios::binary);
        stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        stream.close();
        if (!stream) {
            throw Error(ExitCode::failure,
                        fmt::format("cannot write {}", printable(file.string())));
        }
    }

    void put_certificates() const {
        const Auditors auditors(ledger_ / "auditors");
        for (std::size_t i = 0; i < auditors.hashes().size(); ++i)
            put(fmt::format("auditors/{}.pem", auditors.hashes()[i]), auditors.certificates()[i]);
    }

    void put_log() {
        const std::uint64_t size = checkpoint_.size;
        each_tile(0, size, size, [&](std::uint64_t i, std::uint64_t width) {
            put("log/" + tlog::tile_path(0, i, width), tlog::read_tile(files_, 0, i, width));
        });
        each_tile(range_.first, range_.end, size, [&](std::uint64_t i, std::uint64_t width) {
            const std::string bundle = tlog::read_bundle(files_, i, width);
            put("log/" + tlog::entries_path(i, width), bundle);
            std::uint64_t index = i * tlog::kTileWidth;
            for (const std::string_view entry : tlog::parse_entries(bundle, width))
                checks_.take(index++, entry);
        });
    }

    void put_payloads() {
        const Subjects subjects(ledger_ / "keys" / "subjects");
        const PayloadStore payloads(ledger_ / "payloads");
        for (std::uint64_t i = range_.first; i < range_.end; ++i) {
            const Intent* intent = checks_.intent_at(i);
            const Complete* complete = checks_.complete_of(i);
            if (intent == nullptr || complete == nullptr) continue;
            const auto sealed = sealed_answer(subjects, payloads, i, *intent, *complete);
            if (!sealed) continue;
            put(payload_path(i, "bin"), sealed->ciphertext);
            put(payload_path(i, "cms"), sealed->envelope);
            ++n_payloads_;
        }
    }

    void put_stamps() const {
        std::vector<std::uint64_t> sizes = stamped_sizes(ledger_);
        sizes.erase(std::upper_bound(sizes.begin(), sizes.end(), checkpoint_.size), sizes.end());
        for (const std::uint64_t size : stamps_for(sizes, range_.first, range_.end)) {
            const Stamp stamp = read_stamp(ledger_, size);
            put(fmt::format("stamps/{}.checkpoint", size), stamp.checkpoint);
            put(fmt::format("stamps/{}.tsr", size), stamp.response);
        }
    }

    /// The record of a load, which may lie before those of the bundle.
    ModelLoad load_of(std::uint64_t index) const {
        if (const ModelLoad* load = checks_.load_at(index)) return *load;
        std::optional<ModelLoad> found;
        tlog::read_entries(files_, index, index + 1, checkpoint_.size,
                           [&](std::uint64_t, std::string_view entry) {
                               const Record record = parse_record(entry);
                               if (const auto* load = std::get_if<ModelLoad>(&record.body)) {
                                   found = *load;
                               }
                           });
        if (found) return *found;
        throw Error(ExitCode::invalid, fmt::format("record {} is no model_load", index));
    }

    void put_evidence() const {
        std::map<std::uint64_t, ModelLoad> loads;
        for (std::uint64_t i = range_.first; i < range_.end; ++i) {
            const Intent* intent = checks_.intent_at(i);
            if (intent != nullptr && loads.count(intent->load) == 0) {
                loads.emplace(intent->load, load_of(intent->load));
            }
            if (const ModelLoad* load = checks_.load_at(i)) loads.emplace(i, *load);
        }
        const auto files = evidence_(loads);
        ETALON_ASSERT(files.count(kSandboxPath) == 1);
        for (const auto& [index, load] : loads)
            ETALON_ASSERT(files.count(bom_path(load.model)) == 1);
        for (const auto& [path, bytes] : files)
            put(path, bytes);
    }

    void put_manifest() const {
        Manifest manifest{checkpoint_.origin, checkpoint_.size, range_.first, range_.end, 0, {}};
        manifest.made_us = unix_time_us();
        manifest.files = hash_folder(out_);
        const std::string text = manifest_text(manifest);
        put("MANIFEST", tlog::note_text({text, {key_.sign(text)}}));
    }

    std::filesystem::path ledger_;
    BundleRange range_;
    std::filesystem::path out_;
    const EvidenceSource& evidence_;
    tlog::FileSource files_;
    tlog::SigningKey key_;
    std::string note_;
    tlog::Checkpoint checkpoint_;
    RecordChecks checks_;
    std::uint64_t n_payloads_ = 0;
};

/// --- verifying ---

class Verifier {
  public:
    Verifier(std::filesystem::path folder, const tlog::Policy& policy)
        : folder_(std::move(folder)), policy_(policy) {}

    BundleReport run(const std::optional<std::string>& held) {
        at_step(1, [&] { open_manifest(); });
        at_step(2, [&] { check_files(); });
        at_step(3, [&] { open_log(); });
        at_step(4, [&] { check_tiles(); });
        if (held) at_step(5, [&] { check_held(*held); });
        at_step(6, [&] { check_entries(); });
        at_step(9, [&] { check_payloads(); });
        at_step(10, [&] { check_models(); });
        at_step(10, [&] { check_paths(); });
        at_step(11, [&] { check_stamps(); });
        return {checkpoint_,
                {manifest_.first, manifest_.end},
                checks_.kinds(),
                checks_.n_unfinished(),
                n_payloads_};
    }

  private:
    std::string read(const std::string& path, std::size_t bytes_max) const {
        return read_file(folder_ / path, bytes_max);
    }

    void open_manifest() {
        const tlog::Note note =
            tlog::parse_note(read("MANIFEST", kManifestBytesMax), kManifestBytesMax);
        manifest_ = parse_manifest(note.text);
        if (!tlog::is_signed_by_log(note, policy_, manifest_.origin)) {
            refuse(1, "MANIFEST is not signed by a log of the policy that has its origin");
        }
    }

    void check_files() const {
        const auto found = hash_folder(folder_);
        for (const auto& [path, file] : manifest_.files) {
            const auto one = found.find(path);
            if (one == found.end()) refuse(2, fmt::format("{} is missing", path));
            if (!(one->second == file)) refuse(2, fmt::format("{} was changed", path));
        }
        if (found.size() != manifest_.files.size()) refuse(2, "a file is not in the MANIFEST");
    }

    void open_log() {
        const tlog::Note note = tlog::parse_note(read("log/checkpoint", tlog::kNoteBytesMax));
        checkpoint_ = tlog::open_checkpoint(note, policy_);
        if (checkpoint_.origin != manifest_.origin) refuse(3, "the checkpoint is of another log");
        if (checkpoint_.size != manifest_.size) refuse(3, "the checkpoint has another size");
    }

    /// Calls `take(hash)` for the first `n` hashes of level 0.
    template <typename Take>
    void each_hash(std::uint64_t n, Take take) const {
        each_tile(0, n, manifest_.size, [&](std::uint64_t i, std::uint64_t width) {
            const std::string path = "log/" + tlog::tile_path(0, i, width);
            const std::string bytes = read(path, tlog::kTileBytesMax);
            if (bytes.size() != width * sizeof(tlog::Hash)) {
                refuse(4, fmt::format("{} has another size", path));
            }
            for (std::uint64_t k = 0; k < width && i * tlog::kTileWidth + k < n; ++k)
                take(tlog::hash_at(bytes, k));
        });
    }

    void check_tiles() {
        each_tile(0, manifest_.size, manifest_.size, [&](std::uint64_t i, std::uint64_t width) {
            expected_.insert("log/" + tlog::tile_path(0, i, width));
        });
        tlog::Frontier tree;
        each_hash(manifest_.size, [&](const tlog::Hash& hash) {
            if (needs_hash(tree.size())) hashes_.push_back(hash);
            tree.append(hash);
        });
        if (tree.root() != checkpoint_.root) refuse(4, "the hashes have another root");
    }

    void check_held(const std::string& note) {
        const auto held = tlog::open_checkpoint(tlog::parse_note(note), policy_);
        if (held.origin != manifest_.origin) refuse(5, "the held checkpoint is of another log");
        if (held.size > manifest_.size) {
            refuse(5, fmt::format("the log has {} records, the held checkpoint {}: it was rolled "
                                  "back",
                                  manifest_.size, held.size));
        }
        tlog::Frontier tree;
        each_hash(held.size, [&](const tlog::Hash& hash) { tree.append(hash); });
        if (tree.root() != held.root) {
            refuse(5, "the held checkpoint is of another history: the log was forked");
        }
    }

    std::uint64_t first_entry() const {
        return manifest_.first / tlog::kTileWidth * tlog::kTileWidth;
    }
    bool needs_hash(std::uint64_t index) const {
        if (manifest_.first == manifest_.end || index < first_entry()) return false;
        return index / tlog::kTileWidth <= (manifest_.end - 1) / tlog::kTileWidth;
    }

    void check_entries() {
        each_tile(manifest_.first, manifest_.end, manifest_.size,
                  [&](std::uint64_t i, std::uint64_t width) { check_bundle(i, width); });
    }

    void check_bundle(std::uint64_t i, std::uint64_t width) {
        const std::string path = "log/" + tlog::entries_path(i, width);
        expected_.insert(path);
        const std::string bytes = read(path, tlog::kBundleBytesMax);
        const auto entries = tlog::parse_entries(bytes, width);
        const std::string_view last = entries.back();
        if (last.data() + last.size() != bytes.data() + bytes.size()) {
            refuse(6, fmt::format("{} has bytes behind its entries", path));
        }
        std::uint64_t index = i * tlog::kTileWidth;
        for (const std::string_view entry : entries) {
            if (tlog::leaf_hash(entry) != hashes_[index - first_entry()]) {
                refuse(6, fmt::format("record {} is not the one in the tree", index));
            }
            checks_.take(index++, entry);
        }
    }

    void check_payloads() {
        for (const auto& [path, file] : manifest_.files) {
            constexpr std::string_view kStart = "payloads/";
            if (path.rfind(kStart, 0) != 0) continue;
            std::uint64_t intent = 0;
            const std::size_t dot = path.find('.');
            const std::string_view number =
                std::string_view(path).substr(kStart.size(), dot - kStart.size());
            if (!tlog::parse_decimal(number, intent)) refuse(9, path + " has no index");
            const bool in_range = intent >= manifest_.first && intent < manifest_.end;
            const Complete* complete = checks_.complete_of(intent);
            if (!in_range || checks_.intent_at(intent) == nullptr || complete == nullptr) {
                refuse(9, path + " is of no answer in the range");
            }
            const std::string cms = payload_path(intent, "cms");
            const std::string bin = payload_path(intent, "bin");
            const bool is_pair = manifest_.files.count(cms) > 0 && manifest_.files.count(bin) > 0;
            if (!is_pair || (path != cms && path != bin)) refuse(9, path + " has no other half");
            expected_.insert(path);
            const bool same = path == cms ? file.sha256 == complete->payload_envelope
                                          : file.sha256 == complete->payload_ciphertext &&
                                                file.bytes == complete->payload_bytes;
            if (!same) refuse(9, path + " is not the recorded payload");
            if (path == bin) ++n_payloads_;
        }
    }

    /// Each model that records of the range name has its bill of materials, and may have its
    /// signature.
    void check_models() {
        for (std::uint64_t i = manifest_.first; i < manifest_.end; ++i) {
            const Intent* intent = checks_.intent_at(i);
            const ModelLoad* load = checks_.load_at(i);
            if (intent == nullptr && load == nullptr) continue;
            const std::string& model = intent != nullptr ? intent->model : load->model;
            const std::string bom = bom_path(model);
            if (!expected_.insert(bom).second) continue;
            expected_.insert(signature_path(model));
            if (manifest_.files.count(bom) == 0) refuse(10, bom + " is missing");
            if (!holds_text(bom, model)) refuse(10, bom + " is of another model");
        }
    }

    /// Whether a file, of whatever size, holds these bytes.
    bool holds_text(const std::string& path, std::string_view text) const {
        const MappedFile file(folder_ / path);
        return text_of(file).find(text) != std::string_view::npos;
    }

    /// What was stamped is a checkpoint of this tree, and the stamp names its digest. Who stamped
    /// it is another question (tlog/time_stamp.h).
    void check_stamps() const {
        std::map<std::uint64_t, std::string> roots;  // by size; "": not computed yet
        for (const auto& [path, file] : manifest_.files) {
            const auto digits = stamp_digits(path);
            if (!digits) continue;
            std::uint64_t size = 0;
            const bool is_number = tlog::parse_decimal(*digits, size) && size <= manifest_.size;
            if (!is_number) refuse(11, path + " is of more records");
            roots[size] = "";
        }
        if (roots.empty()) return;
        tlog::Frontier tree;
        if (roots.begin()->first == 0) roots.begin()->second = tlog::hash_text(tree.root());
        each_hash(roots.rbegin()->first, [&](const tlog::Hash& hash) {
            tree.append(hash);
            const auto found = roots.find(tree.size());
            if (found != roots.end()) found->second = tlog::hash_text(tree.root());
        });
        for (const auto& [size, root] : roots) {
            const std::string name = fmt::format("stamps/{}", size);
            for (const char* half : {".checkpoint", ".tsr"})
                if (manifest_.files.count(name + half) == 0)
                    refuse(11, name + half + " is missing");
            const MappedFile stamped(folder_ / (name + ".checkpoint"));
            const std::string text = fmt::format("{}\n{}\n{}\n\n", manifest_.origin, size, root);
            const Sha256Digest digest = sha256(stamped.bytes());
            const bool is_ours = text_of(stamped).substr(0, text.size()) == text;
            if (!is_ours || !holds_text(name + ".tsr", view_of(digest))) {
                refuse(11, name + " is no stamp of this log");
            }
        }
    }

    void check_paths() const {
        constexpr std::string_view kAuditors = "auditors/";
        for (const auto& [path, file] : manifest_.files) {
            const bool is_certificate =
                path.rfind(kAuditors, 0) == 0 && path.size() == kAuditors.size() + 68 &&
                is_hex(std::string_view(path).substr(kAuditors.size(), kHashDigits), kHashDigits) &&
                path.compare(path.size() - 4, 4, ".pem") == 0;
            if (is_certificate &&
                pem_hash(read(path, kPemBytesMax)) != path.substr(kAuditors.size(), kHashDigits)) {
                refuse(10, path + " is not the certificate of its name");
            }
            const bool known = path == "README.md" || path == "policy.txt" ||
                               path == kSandboxPath || path == "log/checkpoint" || is_certificate ||
                               stamp_digits(path) || expected_.count(path) > 0;
            if (!known) refuse(10, path + " is no file of a bundle");
        }
        for (const char* path : {"README.md", "policy.txt", kSandboxPath})
            if (manifest_.files.count(path) == 0) refuse(10, std::string(path) + " is missing");
    }

    std::filesystem::path folder_;
    const tlog::Policy& policy_;
    Manifest manifest_;
    tlog::Checkpoint checkpoint_;
    std::vector<tlog::Hash> hashes_;  // of the entries that are in the bundle
    std::set<std::string> expected_;
    RecordChecks checks_;
    std::uint64_t n_payloads_ = 0;
};

}  // namespace

BundleRange range_of_times(const std::filesystem::path& ledger_folder, std::uint64_t from_us,
                           std::uint64_t to_us) {
    const tlog::FileSource files = log_files(ledger_folder);
    const auto note = files("checkpoint");
    if (!note) throw Error(ExitCode::not_found, "the ledger has no checkpoint yet");
    const std::uint64_t size = tlog::parse_checkpoint(tlog::parse_note(*note).text).size;
    const auto first_from = [&](std::uint64_t time) {  // times ascend
        std::uint64_t low = 0;
        std::uint64_t high = size;
        while (low < high) {
            const std::uint64_t middle = low + (high - low) / 2;
            std::uint64_t found = 0;
            tlog::read_entries(files, middle, middle + 1, size,
                               [&](std::uint64_t, std::string_view entry) {
                                   found = parse_record(entry).time_us;
                               });
            if (found < time) low = middle + 1;
            if (found >= time) high = middle;
        }
        return low;
    };
    const std::uint64_t first = first_from(from_us);
    return {first, std::max(first, first_from(to_us))};
}

std::string bom_path(std::string_view model) {
    return fmt::format("models/{}/bom.cdx.json", model);
}

std::string signature_path(std::string_view model) {
    return fmt::format("models/{}/model.sig", model);
}

BundleReport export_bundle(const std::filesystem::path& ledger_folder, const BundleRange& range,
                           const std::filesystem::path& out, const EvidenceSource& evidence) {
    return Exporter(ledger_folder, range, out, evidence).run();
}

BundleReport verify_bundle(const std::filesystem::path& folder, const tlog::Policy& policy,
                           const std::optional<std::string>& held) {
    return Verifier(folder, policy).run(held);
}

std::vector<Stamp> bundle_stamps(const std::filesystem::path& folder) {
    const Manifest manifest = parse_manifest(
        tlog::parse_note(read_file(folder / "MANIFEST", kManifestBytesMax), kManifestBytesMax)
            .text);
    std::map<std::uint64_t, Stamp> stamps;
    for (const auto& [path, file] : manifest.files) {
        const auto digits = stamp_digits(path);
        std::uint64_t size = 0;
        if (!digits || !tlog::parse_decimal(*digits, size)) continue;
        const std::string name = fmt::format("stamps/{}", size);
        stamps[size] = {size, read_file(folder / (name + ".checkpoint"), tlog::kNoteBytesMax),
                        read_file(folder / (name + ".tsr"), tlog::kTimeStampBytesMax)};
    }
    std::vector<Stamp> found;
    for (auto& [size, stamp] : stamps)
        found.push_back(std::move(stamp));
    return found;
}

tlog::Policy bundle_policy(const std::filesystem::path& folder) {
    return tlog::parse_policy(read_file(folder / "policy.txt", tlog::kPolicyBytesMax));
}

std::string open_bundle_payload(const std::filesystem::path& folder, std::uint64_t intent,
                                const AuditorKey& key) {
    const std::filesystem::path bin = folder / payload_path(intent, "bin");
    if (!std::filesystem::exists(bin)) {
        throw Error(ExitCode::not_found,
                    fmt::format("the bundle has no payload of record {}", intent));
    }
    const Manifest manifest = parse_manifest(
        tlog::parse_note(read_file(folder / "MANIFEST", kManifestBytesMax), kManifestBytesMax)
            .text);
    RecordChecks checks;
    each_tile(
        manifest.first, manifest.end, manifest.size, [&](std::uint64_t i, std::uint64_t width) {
            const std::string bundle =
                read_file(folder / "log" / tlog::entries_path(i, width), tlog::kBundleBytesMax);
            std::uint64_t index = i * tlog::kTileWidth;
            for (const std::string_view entry : tlog::parse_entries(bundle, width))
                checks.take(index++, entry);
        });
    const Intent* record = checks.intent_at(intent);
    const Complete* complete = checks.complete_of(intent);
    if (record == nullptr || complete == nullptr) {
        throw Error(ExitCode::invalid, fmt::format("record {} is no answered intent", intent));
    }
    const std::string envelope = read_file(folder / payload_path(intent, "cms"), kEnvelopeBytesMax);
    const std::string ciphertext = read_file(bin, kPayloadBytesMax);
    return open_answer({manifest.origin, intent}, *record, *complete, {ciphertext, envelope}, key);
}

}  // namespace etalon::ledger
