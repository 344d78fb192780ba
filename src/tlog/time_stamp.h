// SPDX-License-Identifier: Apache-2.0
// Time stamps (RFC 3161): an authority (TSA) signs that it has seen the SHA-256 of some bytes, and
// when.
//   const std::string request = time_stamp_request(note);          // sent to the authority
//   const TimeStamp stamp = open_time_stamp(request, answer, certificates);
//   const TimeStamp again = verify_time_stamp(note, answer, certificates);    // years later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::tlog {

/// An answer has some kilobytes: a signature and the certificates of the authority.
inline constexpr std::size_t kTimeStampBytesMax = 64 << 10;
inline constexpr std::size_t kCertificatesBytesMax = 1 << 20;

struct TimeStamp {
    std::int64_t time = 0;  ///< seconds since 1970, by the authority's clock
    std::string policy;     ///< under which it stamps: "1.2.3.4"
};

/// A question in DER (TimeStampReq) about the SHA-256 of `data`, with a fresh nonce; it asks for
/// the authority's certificate. `policy`: under which it must stamp, "1.2.3.4"; empty: its own.
/// Errors: usage (the policy is no object identifier).
std::string time_stamp_request(std::string_view data, const std::string& policy = "");

/// What an authority answered (TimeStampResp in DER, hostile). `certificates`: PEM, one or more
/// that are trusted, whose usage must be time stamping; they must have been valid at the time that
/// the stamp names, so that a stamp outlives them. Errors: invalid (larger than kTimeStampBytesMax,
/// not DER, not granted, of another digest, nonce or policy, not signed by these), usage (no
/// certificates are in the PEM).
TimeStamp open_time_stamp(std::string_view request, std::string_view response,
                          std::string_view certificates);

/// The same of an answer whose question is not known any more.
TimeStamp verify_time_stamp(std::string_view data, std::string_view response,
                            std::string_view certificates);

/// Errors: usage (no certificates are in the PEM), before anybody is asked.
void check_time_stamp_certificates(std::string_view certificates);

/// "2026-11-29T08:30:00Z".
std::string time_stamp_text(const TimeStamp& stamp);

}  // namespace etalon::tlog
