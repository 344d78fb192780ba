// SPDX-License-Identifier: Apache-2.0
// tokenizer.model of SentencePiece: a protobuf message (ModelProto of sentencepiece_model.proto),
// of which the fields that decide the tokens are read. Field numbers stand in that file.
#include <bit>
#include <cstring>

#include "base/error.h"
#include "text/internal/limits.h"
#include "text/internal/vocabulary.h"
#include "text/tokenizer_file.h"

namespace etalon::text {
namespace {

[[noreturn]] void refuse(const std::string& file, const std::string& field,
                         const std::string& reason) {
    throw Error(ExitCode::invalid, field + ": " + reason + " (" + printable(file) + ")");
}

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// One field of a message. `bytes` holds what a field of that wire type has, `number` the rest.
struct ProtoField {
    std::uint64_t tag = 0;
    Wire wire = Wire::varint;
    std::uint64_t number = 0;
    std::string_view bytes;
};

/// Reads the fields of one message in order; every length is checked against what is left.
class ProtoReader {
  public:
    ProtoReader(std::string_view bytes, const std::string& file, std::string name)
        : left_(bytes), file_(file), name_(std::move(name)) {}

    bool next(ProtoField& field);
    void expect(const ProtoField& field, Wire wire) const {
        if (field.wire != wire) {
            refuse(file_, name_, "field " + std::to_string(field.tag) + " has the wrong type");
        }
    }

  private:
    std::uint64_t varint();
    std::uint64_t fixed(std::size_t size);

    std::string_view left_;
    const std::string& file_;
    std::string name_;
};

std::uint64_t ProtoReader::varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (left_.empty()) refuse(file_, name_, "is cut off");
        const auto byte = static_cast<std::uint8_t>(left_.front());
        left_.remove_prefix(1);
        value |= std::uint64_t{byte & 0x7FU} << shift;
        if (byte < 0x80) return value;
    }
    refuse(file_, name_, "holds a number of more than 64 bits");
}

std::uint64_t ProtoReader::fixed(std::size_t size) {
    if (left_.size() < size) refuse(file_, name_, "is cut off");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
        value |= std::uint64_t{static_cast<std::uint8_t>(left_[i])} << (8 * i);
    }
    left_.remove_prefix(size);
    return value;
}

bool ProtoReader::next(ProtoField& field) {
    if (left_.empty()) return false;
    const auto key = varint();
    field = {.tag = key >> 3, .wire = static_cast<Wire>(key & 7), .number = 0, .bytes = {}};
    switch (field.wire) {
        case Wire::varint:
            field.number = varint();
            return true;
        case Wire::fixed64:
            field.number = fixed(8);
            return true;
        case Wire::fixed32:
            field.number = fixed(4);
            return true;
        case Wire::bytes:
            break;
        default:
            refuse(file_, name_, "is no protobuf message");
    }
    const auto size = varint();
    if (size > left_.size()) refuse(file_, name_, "is cut off");
    field.bytes = left_.substr(0, static_cast<std::size_t>(size));
    left_.remove_prefix(static_cast<std::size_t>(size));
    return true;
}

/// What TrainerSpec and NormalizerSpec say; the values here are the defaults of the .proto file.
struct Spec {
    std::uint64_t model_type = 1;
    bool space_is_suffix = false;
    bool byte_fallback = false;
    std::string bos = "<s>";
    std::string eos = "</s>";
    std::string padding = "<pad>";
    bool has_characters_map = false;
    bool add_dummy_prefix = true;
    bool remove_extra_spaces = true;
    bool escape_spaces = true;
};

void read_trainer_spec(std::string_view bytes, const std::string& file, Spec& spec) {
    ProtoReader reader(bytes, file, "trainer_spec");
    for (ProtoField field; reader.next(field);) {
        switch (field.tag) {
            case 3:
                reader.expect(field, Wire::varint);
                spec.model_type = field.number;
                break;
            case 24:
                reader.expect(field, Wire::varint);
                spec.space_is_suffix = field.number;
                break;
            case 35:
                reader.expect(field, Wire::varint);
                spec.byte_fallback = field.number;
                break;
            case 46:
                reader.expect(field, Wire::bytes);
                spec.bos = field.bytes;
                break;
            case 47:
                reader.expect(field, Wire::bytes);
                spec.eos = field.bytes;
                break;
            case 48:
                reader.expect(field, Wire::bytes);
                spec.padding = field.bytes;
                break;
            default:
                break;
        }
    }
}

void read_normalizer_spec(std::string_view bytes, const std::string& file, Spec& spec) {
    ProtoReader reader(bytes, file, "normalizer_spec");
    for (ProtoField field; reader.next(field);) {
        if (field.tag < 2 || field.tag > 5) continue;
        reader.expect(field, field.tag == 2 ? Wire::bytes : Wire::varint);
        if (field.tag == 2) spec.has_characters_map = !field.bytes.empty();
        if (field.tag == 3) spec.add_dummy_prefix = field.number != 0;
        if (field.tag == 4) spec.remove_extra_spaces = field.number != 0;
        if (field.tag == 5) spec.escape_spaces = field.number != 0;
    }
}

void read_piece(std::string_view bytes, const std::string& file, TokenizerData& data) {
    const std::string name = "pieces[" + std::to_string(data.tokens.size()) + "]";
    if (data.tokens.size() >= kVocabularyMax) {
        refuse(file, "pieces", "more than " + std::to_string(kVocabularyMax));
    }
    ProtoReader reader(bytes, file, name);
    std::string piece;
    float score = 0;
    std::uint64_t type = 1;
    for (ProtoField field; reader.next(field);) {
        if (field.tag == 1) {
            reader.expect(field, Wire::bytes);
            piece = field.bytes;
        } else if (field.tag == 2) {
            reader.expect(field, Wire::fixed32);
            score = std::bit_cast<float>(static_cast<std::uint32_t>(field.number));
        } else if (field.tag == 3) {
            reader.expect(field, Wire::varint);
            type = field.number;
        }
    }
    if (piece.empty()) refuse(file, name, "has no text");
    if (type < 1 || type > 6) refuse(file, name, "has the unknown type " + std::to_string(type));
    data.tokens.push_back(std::move(piece));
    data.scores.push_back(score);
    data.types.push_back(static_cast<TokenType>(type));
}

void check_supported(const Spec& spec, const std::string& file) {
    constexpr std::uint64_t kUnigram = 1;
    constexpr std::uint64_t kBpe = 2;
    if (spec.model_type == kUnigram) {
        refuse(file, "trainer_spec.model_type", "unigram is not supported, only BPE is");
    }
    if (spec.model_type != kBpe) {
        refuse(file, "trainer_spec.model_type",
               std::to_string(spec.model_type) + " is not supported, only BPE is");
    }
    if (spec.space_is_suffix) {
        refuse(file, "trainer_spec.treat_whitespace_as_suffix", "true is not supported");
    }
    if (spec.has_characters_map) {
        refuse(file, "normalizer_spec.precompiled_charsmap",
               "only the identity normalisation is supported");
    }
    if (spec.remove_extra_spaces) {
        refuse(file, "normalizer_spec.remove_extra_whitespaces", "true is not supported");
    }
    if (!spec.escape_spaces) {
        refuse(file, "normalizer_spec.escape_whitespaces", "false is not supported");
    }
}

std::int32_t control_token(const TokenizerData& data, std::string_view text) {
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        if (data.types[i] == TokenType::control && data.tokens[i] == text) {
            return static_cast<std::int32_t>(i);
        }
    }
    return kNoToken;
}

std::int32_t unknown_token(const TokenizerData& data, const std::string& file) {
    std::int32_t unknown = kNoToken;
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        if (data.types[i] != TokenType::unknown) continue;
        if (unknown != kNoToken) refuse(file, "pieces", "two are of type unknown");
        unknown = static_cast<std::int32_t>(i);
    }
    return unknown;
}

void check_byte_fallback(const TokenizerData& data, const Spec& spec, const std::string& file) {
    std::size_t bytes = 0;
    for (const auto type : data.types)
        bytes += type == TokenType::byte ? 1 : 0;
    const std::size_t needed = spec.byte_fallback ? 256 : 0;
    if (bytes != needed) {
        refuse(file, "pieces",
               std::to_string(bytes) + " are of type byte, trainer_spec needs " +
                   std::to_string(needed));
    }
}

}  // namespace

TokenizerData read_tokenizer_model(std::span<const std::byte> proto, const std::string& file) {
    TokenizerData data;
    data.kind = TokenizerKind::sentencepiece;
    Spec spec;
    ProtoReader reader({reinterpret_cast<const char*>(proto.data()), proto.size()}, file, "model");
    for (ProtoField field; reader.next(field);) {
        if (field.tag < 1 || field.tag > 3) continue;
        reader.expect(field, Wire::bytes);
        if (field.tag == 1) read_piece(field.bytes, file, data);
        if (field.tag == 2) read_trainer_spec(field.bytes, file, spec);
        if (field.tag == 3) read_normalizer_spec(field.bytes, file, spec);
    }
    if (data.tokens.empty()) refuse(file, "pieces", "there are none");
    check_supported(spec, file);
    check_byte_fallback(data, spec, file);
    data.unknown = unknown_token(data, file);
    data.bos = control_token(data, spec.bos);
    data.eos = control_token(data, spec.eos);
    data.padding = control_token(data, spec.padding);
    data.add_bos = data.bos != kNoToken;
    data.add_space_prefix = spec.add_dummy_prefix;
    data.end_of_turn = known_end_of_turn(data);
    check_tokenizer_data(data, file);
    return data;
}

}  // namespace etalon::text
