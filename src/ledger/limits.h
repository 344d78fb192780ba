// SPDX-License-Identifier: Apache-2.0
// Every limit of the ledger, with its reason.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace etalon::ledger {

/// A number that every JSON parser reads exactly (RFC 8785).
inline constexpr std::uint64_t kIntegerMax = 9007199254740991ULL;
inline constexpr std::size_t kRecordBytesMax = 65535;  ///< of an entry of a log
inline constexpr int kRecordDepthMax = 8;              ///< records use three
/// Answers of one prompt: each takes about 350 bytes of its complete record.
inline constexpr std::size_t kAnswersMax = 128;
static_assert(kAnswersMax * 400 < kRecordBytesMax);
inline constexpr std::size_t kPartsMax = 4096;     ///< prompts of one request
inline constexpr std::size_t kSubjectsMax = 16;    ///< of one request; each wraps the payload once
inline constexpr std::size_t kNameBytesMax = 512;  ///< of a tenant, a subject, a model
inline constexpr std::size_t kAuditorsMax = 16;    ///< each adds some 300 bytes to every payload

/// A payload has a prompt and up to 128 answers; with 16 Mi tokens of at most 11 bytes each a
/// single one has under 200 MiB.
inline constexpr std::size_t kPayloadBytesMax = std::size_t{1} << 30;
inline constexpr std::size_t kEnvelopeBytesMax = 64 << 10;
inline constexpr std::size_t kPemBytesMax = 64 << 10;

/// Requests that wait for the ledger's thread; more are told that it cannot keep up.
inline constexpr std::size_t kQueueMax = 65536;
inline constexpr const char* kLocalAuditorKey = "local-auditor.key";
inline constexpr const char* kLocalAuditor = "auditors/local.pem";  ///< its certificate
inline constexpr const char* kCosigned = "cosigned";                ///< beside the log's checkpoint
inline constexpr const char* kPolicyFile = "policy.txt";            ///< the log and its witnesses
inline constexpr const char* kAskedFolder = "asked";
/// Records that another process asks for at once: of under 400 bytes each.
inline constexpr std::size_t kAskedBytesMax = std::size_t{64} << 20;
/// A receipt is promised within two seconds; a signed checkpoint costs about a millisecond.
inline constexpr std::chrono::milliseconds kPublishTime{500};
/// A shared log is left so long after its last record: a complete record and the end of the program
/// follow each other closely.
inline constexpr std::chrono::milliseconds kHeldTime{50};
/// The end of a program does not wait longer for another one that writes the log: its boot stays
/// without a shutdown record.
inline constexpr std::chrono::milliseconds kEndTime{1000};
/// Between two looks whether another process still writes the log.
inline constexpr std::chrono::milliseconds kBusyPause{5};

/// --- erasure ---
/// Of some 250 bytes a line: a million erasures.
inline constexpr std::size_t kJournalBytesMax = std::size_t{256} << 20;
/// Each takes under 80 bytes of the record of the configuration.
inline constexpr std::size_t kRetentionRulesMax = 500;
static_assert(kRetentionRulesMax * 80 < kRecordBytesMax * 2 / 3);
inline constexpr std::uint64_t kRetentionDaysMax = 36500;  ///< a century; more is a typing error
/// A backup of keys that is older could bring back what was erased since, if its journal were lost.
inline constexpr std::uint64_t kKeyBackupDaysMax = 31;
/// Ids that one name has had: with a key a day for a century the record would be too long.
inline constexpr std::size_t kRefusedSubjectsMax = 1000;
inline constexpr std::size_t kPreviousDigits = 16;  ///< name a former log in a restored ledger

/// --- stored responses ---
/// What a client sent and got in one turn: texts of a few million words.
inline constexpr std::size_t kStoredContentBytesMax = std::size_t{16} << 20;
/// The line in clear: an id and at most 17 subjects of 35 bytes each.
inline constexpr std::size_t kStoredHeadBytesMax = 2048;
inline constexpr std::uint64_t kStoredDaysMax = 3650;  ///< more is a typing error
/// Of one tenant: so many names in a folder are counted in some milliseconds.
inline constexpr std::uint64_t kStoredResponsesMax = 1000000;

/// --- audit bundles ---
inline constexpr std::size_t kManifestBytesMax = std::size_t{64} << 20;
inline constexpr std::size_t kPathBytesMax = 200;
/// Stamps in one bundle: a verifier may compute a tree for each.
inline constexpr std::size_t kBundleStampsMax = 16;
/// Of what a worker told of its locks: a line each, and there are under ten.
inline constexpr std::size_t kSandboxBytesMax = 64 << 10;
inline constexpr std::size_t kReceiptBytesMax = std::size_t{512} << 20;

}  // namespace etalon::ledger
