// SPDX-License-Identifier: Apache-2.0
// Frames of both directions: refused with an Error, or a message that is encoded and comes back
// equal. The first byte chooses the direction; what a worker says also goes past ProtocolCheck.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "wire/codec.h"
#include "wire/protocol_check.h"

namespace {

namespace wire = etalon::wire;

/// A front that has asked one question of each kind: 1 runs, 2 to 6 wait for their answers.
wire::ProtocolCheck make_check() {
    wire::ProtocolCheck check;
    wire::Hello hello;
    hello.vocab_size = 1000;
    hello.context_tokens = 1000;
    hello.cache_tokens = 1000;
    hello.dim = 4;
    check.received(hello);
    wire::Prepare prepare;
    prepare.id = 1;
    check.sent(prepare);
    check.received(wire::Prepared{1, {1, 2, 3}, 9, 100});
    check.sent(wire::Go{1});
    prepare.id = 2;
    check.sent(prepare);
    check.sent(wire::Tokenize{3, wire::TextPrompt{"a"}});
    check.sent(wire::Detokenize{4, {1}});
    check.sent(wire::Embed{5, "t", {wire::TextPrompt{"a"}}});
    check.sent(wire::AskCounters{6});
    return check;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view frame(reinterpret_cast<const char*>(data + 1), size - 1);
    try {
        if (data[0] % 2 == 0) {
            (void)wire::decode_to_worker(wire::encode(wire::decode_to_worker(frame)));
            return 0;
        }
        const wire::ToFront message = wire::decode_to_front(frame);
        ETALON_ASSERT(wire::decode_to_front(wire::encode(message)) == message);
        wire::ProtocolCheck check = make_check();
        check.received(message);
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
