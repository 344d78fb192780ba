// SPDX-License-Identifier: Apache-2.0
// Everything of a log that comes from outside: notes, checkpoints, keys, policies, proof files,
// requests to a witness, bundles. The first byte chooses. What is accepted and written again is
// read as the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tlog/checkpoint.h"
#include "tlog/policy.h"
#include "tlog/proof_file.h"
#include "tlog/tile.h"
#include "tlog/verify.h"
#include "tlog/witness.h"

namespace {

namespace tlog = etalon::tlog;

constexpr const char* kKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

void read_one(unsigned kind, std::string_view bytes) {
    const tlog::VerifierKey key = tlog::parse_verifier_key(kKey);
    switch (kind % 8) {
        case 0: {
            const tlog::Note note = tlog::parse_note(bytes);
            ETALON_ASSERT(tlog::note_text(note) == bytes);
            (void)tlog::is_signed_by(note, key);
            break;
        }
        case 1:
            ETALON_ASSERT(tlog::parse_checkpoint(bytes).text() == bytes);
            break;
        case 2:
            ETALON_ASSERT(tlog::parse_verifier_key(bytes).text().size() == bytes.size());
            break;
        case 3:
            (void)tlog::parse_policy(bytes);
            break;
        case 4: {
            const tlog::ProofFile proof = tlog::parse_proof_file(bytes);
            ETALON_ASSERT(tlog::proof_file_text(proof) == bytes);
            break;
        }
        case 5: {
            const tlog::Checkpoint last{key.name, 3, tlog::leaf_hash("x")};
            const tlog::SigningKey witness =
                tlog::SigningKey::generate("w", tlog::KeyKind::cosignature);
            const auto answer = tlog::add_checkpoint(bytes, key, last, witness, 1);
            ETALON_ASSERT(answer.status != 200);  // the key that signs is not here
            break;
        }
        case 6:
            (void)tlog::parse_entries(bytes.substr(1), bytes[0] & 255U);
            break;
        default: {  // every file of the log has these bytes
            tlog::Policy policy;
            policy.logs.push_back(key);
            policy.quorum = "none";
            const tlog::FileSource files = [&](const std::string&) { return std::string(bytes); };
            (void)tlog::verify_log(files, policy);
            tlog::TileReader nodes(files, 1 + bytes.size() * 1000);
            (void)tlog::tree_root(nodes, nodes.size());
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    try {
        read_one(data[0], {reinterpret_cast<const char*>(data + 1), size - 1});
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
