// SPDX-License-Identifier: Apache-2.0
// The bytes of a payload (docs/replay.md): canonical JSON of fixed members, so that the reader
// knows at each byte what may stand there and needs no tree.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <fmt/format.h>

#include "base/error.h"
#include "engine/limits.h"
#include "engine/payload.h"

namespace etalon::engine {

namespace {

constexpr std::uint32_t kPayloadVersion = 1;
constexpr std::string_view kVersionMember = ",\"version\":";
constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr int kFloatDigits = 8;
constexpr int kWordDigits = 16;  // of 64 bits
/// Control characters with an escape of their own; the others are written \u00xx (RFC 8785).
constexpr std::string_view kShortControls = "\b\t\n\f\r";
constexpr std::string_view kShortEscapes = "btnfr";
constexpr std::array kFinishReasons = {FinishReason::stop, FinishReason::length,
                                       FinishReason::cancelled, FinishReason::error};

/// --- writing ---

void put_hex(std::string& out, std::uint64_t value, int n_digits) {
    for (int i = n_digits - 1; i >= 0; --i)
        out += kHexDigits[(value >> (4 * i)) & 15];
}

void put_float(std::string& out, float value) {
    out += '"';
    put_hex(out, std::bit_cast<std::uint32_t>(value), kFloatDigits);
    out += '"';
}

void put_text(std::string& out, std::string_view text) {
    out += '"';
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        const std::size_t place = kShortControls.find(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (place != std::string_view::npos) {
            out += '\\';
            out += kShortEscapes[place];
        } else if (code < 0x20) {
            out += "\\u";
            put_hex(out, code, 4);
        } else {
            out += c;
        }
    }
    out += '"';
}

void put_integer(std::string& out, std::int64_t value) {
    std::array<char, 24> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out.append(digits.data(), end);
}

template <typename T, typename Put>
void put_list(std::string& out, const T& items, Put put) {
    out += '[';
    bool first = true;
    for (const auto& item : items) {
        if (!first) out += ',';
        first = false;
        put(item);
    }
    out += ']';
}

void put_tokens(std::string& out, const std::vector<std::int32_t>& tokens) {
    put_list(out, tokens, [&](std::int32_t id) { put_integer(out, id); });
}

void put_biases(std::string& out, std::vector<std::pair<std::int32_t, float>> biases) {
    std::sort(biases.begin(), biases.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    put_list(out, biases, [&](const auto& bias) {
        out += '[';
        put_integer(out, bias.first);
        out += ',';
        put_float(out, bias.second);
        out += ']';
    });
}

void put_sampling(std::string& out, const Payload& payload) {
    const exact::SamplingParameters& p = payload.sampling;
    out += R"({"frequency_penalty":)";
    put_float(out, p.frequency_penalty);
    out += payload.ignore_eos ? R"(,"ignore_eos":true)" : R"(,"ignore_eos":false)";
    out += R"(,"logit_bias":)";
    put_biases(out, p.logit_bias);
    out += R"(,"mask":)";
    if (payload.mask) {
        out += R"({"kind":)";
        put_text(out, payload.mask->kind);
        out += R"(,"text":)";
        put_text(out, payload.mask->text);
        out += '}';
    } else {
        out += "null";
    }
    out += R"(,"max_tokens":)";
    put_integer(out, payload.max_tokens);
    out += R"(,"min_p":)";
    put_float(out, p.min_p);
    out += R"(,"min_tokens":)";
    put_integer(out, payload.min_tokens);
    out += R"(,"n":)";
    put_integer(out, payload.n);
    out += R"(,"presence_penalty":)";
    put_float(out, p.presence_penalty);
    out += R"(,"repetition_penalty":)";
    put_float(out, p.repetition_penalty);
    out += R"(,"seed":")";
    put_hex(out, p.seed, kWordDigits);
    out += R"(","stop_strings":)";
    put_list(out, payload.stop_strings, [&](const std::string& stop) { put_text(out, stop); });
    out += R"(,"stop_tokens":)";
    put_tokens(out, payload.stop_tokens);
    out += R"(,"temperature":)";
    put_float(out, p.temperature);
    out += R"(,"top_k":)";
    put_integer(out, p.top_k);
    out += R"(,"top_logprobs":)";
    if (payload.top_logprobs) put_integer(out, *payload.top_logprobs);
    if (!payload.top_logprobs) out += "null";
    out += R"(,"top_p":)";
    put_float(out, p.top_p);
    out += '}';
}

/// --- reading ---

class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}

    bool is_at_end() const { return at_ == bytes_.size(); }
    [[noreturn]] void refuse(std::string_view expected) const {
        throw Error(ExitCode::invalid, fmt::format("payload, byte {}: expected {}", at_, expected),
                    "a payload is one line of canonical JSON, as it was written");
    }

    bool skip(std::string_view literal) {
        if (bytes_.substr(at_, literal.size()) != literal) return false;
        at_ += literal.size();
        return true;
    }
    void expect(std::string_view literal) {
        if (!skip(literal)) refuse(literal);
    }

    std::int64_t integer(std::string_view what, std::int64_t low, std::int64_t high);
    std::uint64_t hex(std::string_view what, int n_digits);
    std::string text(std::string_view what, std::size_t bytes_max);

    float number(std::string_view what) {
        expect("\"");
        const auto bits = static_cast<std::uint32_t>(hex(what, kFloatDigits));
        expect("\"");
        return std::bit_cast<float>(bits);
    }

    /// Calls `read` for each element of a list of at most `size_max`.
    template <typename Read>
    void list(std::string_view what, std::size_t size_max, Read read) {
        expect("[");
        for (std::size_t size = 0; !skip("]"); ++size) {
            if (size == size_max) refuse(fmt::format("at most {} elements of {}", size, what));
            if (size > 0) expect(",");
            read();
        }
    }

    std::vector<std::int32_t> tokens(std::string_view what, std::size_t size_max) {
        std::vector<std::int32_t> ids;
        list(what, size_max,
             [&] { ids.push_back(static_cast<std::int32_t>(integer(what, 0, INT32_MAX))); });
        return ids;
    }

  private:
    char take_escape();

    std::string_view bytes_;
    std::size_t at_ = 0;
};

/// A decimal integer of the range without sign or leading zeros: `low` is not negative.
std::int64_t Reader::integer(std::string_view what, std::int64_t low, std::int64_t high) {
    const char* const begin = bytes_.data() + at_;
    const char* const end = bytes_.data() + bytes_.size();
    std::int64_t value = -1;
    const auto [next, error] = std::from_chars(begin, end, value);
    const bool canonical = error == std::errc() && *begin != '-' && (*begin != '0' || value == 0) &&
                           (value != 0 || next == begin + 1);
    if (!canonical || value < low || value > high) {
        refuse(fmt::format("{}, an integer from {} to {}", what, low, high));
    }
    at_ += static_cast<std::size_t>(next - begin);
    return value;
}

std::uint64_t Reader::hex(std::string_view what, int n_digits) {
    std::uint64_t value = 0;
    const std::string_view digits = bytes_.substr(at_, static_cast<std::size_t>(n_digits));
    for (const char digit : digits) {
        const std::size_t place = kHexDigits.find(digit);
        if (place == std::string_view::npos) break;
        value = (value << 4) | place;
        ++at_;
        --n_digits;
    }
    if (n_digits > 0) refuse(fmt::format("{} more lower-case hex digits of {}", n_digits, what));
    return value;
}

/// The character of an escape, behind its backslash: the one form that RFC 8785 has for it.
char Reader::take_escape() {
    if (skip("\"")) return '"';
    if (skip("\\")) return '\\';
    for (std::size_t i = 0; i < kShortEscapes.size(); ++i) {
        if (skip(kShortEscapes.substr(i, 1))) return kShortControls[i];
    }
    expect("u00");
    const auto code = static_cast<char>(hex("an escape", 2));
    const bool is_control = static_cast<unsigned char>(code) < 0x20;
    if (!is_control || kShortControls.find(code) != std::string_view::npos) {
        refuse("an escape in its shortest form before this place");
    }
    return code;
}

std::string Reader::text(std::string_view what, std::size_t bytes_max) {
    expect("\"");
    std::string text;
    while (!skip("\"")) {
        if (is_at_end() || static_cast<unsigned char>(bytes_[at_]) < 0x20) {
            refuse(fmt::format("the end of {}", what));
        }
        if (text.size() == bytes_max)
            refuse(fmt::format("at most {} bytes of {}", bytes_max, what));
        if (skip("\\")) {
            text += take_escape();
        } else {
            text += bytes_[at_++];
        }
    }
    return text;
}

FinishReason read_finish(Reader& reader) {
    for (const FinishReason reason : kFinishReasons) {
        if (reader.skip(fmt::format("\"{}\"", finish_name(reason)))) return reason;
    }
    reader.refuse("\"stop\", \"length\", \"cancelled\" or \"error\"");
}

void read_answer(Reader& reader, Payload& payload) {
    reader.expect(R"({"checksums":")");
    while (!reader.skip("\"")) {
        if (payload.checksums.size() == kPayloadTokensMax) reader.refuse("the end of checksums");
        payload.checksums.push_back(reader.hex("a checksum", kWordDigits));
    }
    reader.expect(R"(,"finish":)");
    payload.finish = read_finish(reader);
    reader.expect(R"(,"tokens":)");
    payload.answer = reader.tokens("tokens", kPayloadTokensMax);
    reader.expect("}");
}

void read_model(Reader& reader, Payload& payload) {
    reader.expect(R"({"name":)");
    payload.model_name = reader.text("name", kModelNameBytesMax);
    reader.expect(R"(,"sha256":")");
    for (std::uint8_t& byte : payload.model_sha256)
        byte = static_cast<std::uint8_t>(reader.hex("sha256", 2));
    reader.expect("\"}");
}

void read_biases(Reader& reader, Payload& payload) {
    std::int64_t least = 0;  // ids ascend, so that there is one order
    reader.list("logit_bias", kLogitBiasMax, [&] {
        reader.expect("[");
        const std::int64_t id = reader.integer("a token behind the last one", least, INT32_MAX);
        least = id + 1;
        reader.expect(",");
        payload.sampling.logit_bias.emplace_back(static_cast<std::int32_t>(id),
                                                 reader.number("a bias"));
        reader.expect("]");
    });
}

void read_mask(Reader& reader, Payload& payload) {
    if (reader.skip("null")) return;
    MaskSource& mask = payload.mask.emplace();
    reader.expect(R"({"kind":)");
    mask.kind = reader.text("kind", kMaskKindBytesMax);
    reader.expect(R"(,"text":)");
    mask.text = reader.text("text", kMaskTextBytesMax);
    reader.expect("}");
}

void read_sampling(Reader& reader, Payload& payload) {
    exact::SamplingParameters& p = payload.sampling;
    const auto integer = [&](std::string_view what, std::int64_t low, std::int64_t high) {
        return static_cast<int>(reader.integer(what, low, high));
    };
    reader.expect(R"({"frequency_penalty":)");
    p.frequency_penalty = reader.number("frequency_penalty");
    reader.expect(R"(,"ignore_eos":)");
    payload.ignore_eos = reader.skip("true");
    if (!payload.ignore_eos) reader.expect("false");
    reader.expect(R"(,"logit_bias":)");
    read_biases(reader, payload);
    reader.expect(R"(,"mask":)");
    read_mask(reader, payload);
    reader.expect(R"(,"max_tokens":)");
    payload.max_tokens = integer("max_tokens", 1, INT32_MAX);
    reader.expect(R"(,"min_p":)");
    p.min_p = reader.number("min_p");
    reader.expect(R"(,"min_tokens":)");
    payload.min_tokens = integer("min_tokens", 0, INT32_MAX);
    reader.expect(R"(,"n":)");
    payload.n = integer("n", 1, kChoicesMax);
    reader.expect(R"(,"presence_penalty":)");
    p.presence_penalty = reader.number("presence_penalty");
    reader.expect(R"(,"repetition_penalty":)");
    p.repetition_penalty = reader.number("repetition_penalty");
    reader.expect(R"(,"seed":")");
    p.seed = reader.hex("seed", kWordDigits);
    reader.expect(R"(","stop_strings":)");
    reader.list("stop_strings", kStopStringsMax,
                [&] { payload.stop_strings.push_back(reader.text("a stop", kStopBytesMax)); });
    reader.expect(R"(,"stop_tokens":)");
    payload.stop_tokens = reader.tokens("stop_tokens", kStopTokensMax);
    reader.expect(R"(,"temperature":)");
    p.temperature = reader.number("temperature");
    reader.expect(R"(,"top_k":)");
    p.top_k = integer("top_k", 0, INT32_MAX);
    reader.expect(R"(,"top_logprobs":)");
    if (!reader.skip("null")) payload.top_logprobs = integer("top_logprobs", 0, kTopLogprobsMax);
    reader.expect(R"(,"top_p":)");
    p.top_p = reader.number("top_p");
    reader.expect("}");
}

/// The version is the last member in the order of RFC 8785; it is looked at first, so that a later
/// version is named and not taken for damage.
void check_version(std::string_view bytes) {
    const std::size_t place = bytes.rfind(kVersionMember);
    if (place == std::string_view::npos) return;  // the reader says what is wrong
    const std::string_view tail = bytes.substr(place + kVersionMember.size());
    std::uint32_t version = 0;
    const auto result = std::from_chars(tail.data(), tail.data() + tail.size(), version);
    if (result.ec != std::errc()) return;
    if (version == kPayloadVersion) return;
    throw Error(ExitCode::invalid,
                fmt::format("payload: version {} is not known, {} is", version, kPayloadVersion));
}

}  // namespace

std::string write_payload(const Payload& payload) {
    check_payload(payload);
    std::string out = R"({"answer":{"checksums":")";
    out.reserve(payload.checksums.size() * kWordDigits + payload.prompt.size() * 8);
    for (const std::uint64_t checksum : payload.checksums)
        put_hex(out, checksum, kWordDigits);
    out += R"(","finish":")";
    out += finish_name(payload.finish);
    out += R"(","tokens":)";
    put_tokens(out, payload.answer);
    out += R"(},"arithmetic":)";
    put_integer(out, payload.arithmetic);
    out += R"(,"choice":)";
    put_integer(out, payload.choice);
    out += R"(,"model":{"name":)";
    put_text(out, payload.model_name);
    out += R"(,"sha256":")";
    out += to_hex(payload.model_sha256);
    out += R"("},"prompt":)";
    put_tokens(out, payload.prompt);
    out += R"(,"sampling":)";
    put_sampling(out, payload);
    out += kVersionMember;
    put_integer(out, kPayloadVersion);
    out += '}';
    return out;
}

Payload read_payload(std::string_view bytes) {
    if (bytes.size() > kPayloadBytesMax) {
        throw Error(ExitCode::invalid, fmt::format("payload: {} bytes, at most {} are accepted",
                                                   bytes.size(), kPayloadBytesMax));
    }
    check_version(bytes);
    Payload payload;
    Reader reader(bytes);
    reader.expect(R"({"answer":)");
    read_answer(reader, payload);
    reader.expect(R"(,"arithmetic":)");
    payload.arithmetic = static_cast<int>(reader.integer("arithmetic", 1, INT32_MAX));
    reader.expect(R"(,"choice":)");
    payload.choice = static_cast<int>(reader.integer("choice", 0, kChoicesMax - 1));
    reader.expect(R"(,"model":)");
    read_model(reader, payload);
    reader.expect(R"(,"prompt":)");
    payload.prompt = reader.tokens("prompt", kPayloadTokensMax);
    reader.expect(R"(,"sampling":)");
    read_sampling(reader, payload);
    reader.expect(kVersionMember);
    (void)reader.integer("version", kPayloadVersion, kPayloadVersion);
    reader.expect("}");
    if (!reader.is_at_end()) reader.refuse("nothing more");
    check_payload(payload);
    return payload;
}

}  // namespace etalon::engine
