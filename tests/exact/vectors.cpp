// SPDX-License-Identifier: Apache-2.0
// Golden vectors: format, inputs, and the call of src/exact for each operation.
#include "exact/vectors.h"

#include <bit>
#include <fmt/format.h>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "exact/attention.h"
#include "exact/digest.h"
#include "exact/linear.h"
#include "exact/moe.h"
#include "exact/norm.h"
#include "exact/quantize.h"
#include "exact/rope.h"
#include "exact/rotate.h"
#include "exact/sampler.h"
#include "exact/swiglu.h"

namespace etalon::exact {

namespace {

VectorField floats(const std::vector<float>& values) {
    VectorField field{"f32", {}, ""};
    for (const float value : values)
        field.values.push_back(std::bit_cast<std::uint32_t>(value));
    return field;
}

template <typename T>
VectorField integers(const std::vector<T>& values) {
    VectorField field{"i32", {}, ""};
    for (const T value : values)
        field.values.push_back(static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
    return field;
}

VectorField word(std::uint64_t value) {
    return {"u64", {value}, ""};
}

std::vector<float> floats_of(const VectorFile& file, const std::string& key) {
    std::vector<float> values;
    for (const std::uint64_t bits : file.at(key).values)
        values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    return values;
}

template <typename T>
std::vector<T> integers_of(const VectorFile& file, const std::string& key) {
    std::vector<T> values;
    for (const std::uint64_t value : file.at(key).values)
        values.push_back(static_cast<T>(static_cast<std::int64_t>(value)));
    return values;
}

/// A generator that is the same everywhere: inputs only, its quality does not matter.
struct Random {
    std::uint32_t state;
    std::uint32_t next() {
        state = state * 1664525U + 1013904223U;
        return state >> 8;
    }
    std::vector<float> floats(std::size_t n, float scale) {
        std::vector<float> x(n);
        for (float& value : x)
            value = (static_cast<float>(next() % 20001) - 10000.0F) * scale;
        return x;
    }
    std::vector<std::int32_t> integers(std::size_t n, int low, int high) {
        std::vector<std::int32_t> x(n);
        for (std::int32_t& value : x)
            value = low + static_cast<std::int32_t>(next() % static_cast<unsigned>(high - low + 1));
        return x;
    }
};

VectorFile compute_quantize(const VectorFile& in) {  // QNT-2
    const auto x = floats_of(in, "x");
    std::vector<std::int8_t> q(x.size());
    const float a = quantize(x, q).scale;
    return {{"out_q", integers(q)}, {"out_a", floats({a})}};
}

VectorFile compute_rotate(const VectorFile& in) {  // ROT-3, ROT-4
    auto x = floats_of(in, "x");
    std::vector<float> scratch(x.size());
    rotate(rotation_for(static_cast<int>(x.size())), x, scratch);
    return {{"out_x", floats(x)}};
}

VectorFile compute_linear_e8(const VectorFile& in) {  // LIN-2, LIN-3
    const auto w = integers_of<std::int8_t>(in, "q_w");
    const auto x = integers_of<std::int8_t>(in, "q_x");
    return {
        {"out_y", floats({scale_sum(dot_i8(w, x), floats_of(in, "a")[0], floats_of(in, "d")[0])})}};
}

VectorFile compute_linear_q4_1(const VectorFile& in) {  // LIN-4 to LIN-6
    std::vector<std::byte> row;
    for (const int byte : integers_of<int>(in, "row"))
        row.push_back(static_cast<std::byte>(byte));
    const auto x = integers_of<std::int8_t>(in, "q_x");
    return {{"out_y", floats({linear_blocked(Format::q4_1, row, x, floats_of(in, "a"))})}};
}

VectorFile compute_norm(const VectorFile& in) {  // NRM-1, NRM-2
    const auto h = floats_of(in, "h");
    std::vector<float> z(h.size());
    norm_weigh(h, floats_of(in, "w"), z);
    return {{"out_scale", floats({norm_scale(h, floats_of(in, "eps")[0])})}, {"out_z", floats(z)}};
}

VectorFile compute_rope(const VectorFile& in) {  // RPE-1 to RPE-7
    auto head = floats_of(in, "head");
    RopeConfig config;
    config.n_dims = static_cast<int>(head.size());
    config.base = floats_of(in, "base")[0];
    const auto turns = rope_turns(config);
    std::vector<float> c(turns.size());
    std::vector<float> s(turns.size());
    rope_table(turns, 1.0F, integers_of<std::int64_t>(in, "position")[0], c, s);
    rope_apply(RopePairing::interleaved, c, s, head);
    return {{"out_turns", {"u64", turns, ""}}, {"out_head", floats(head)}};
}

VectorFile compute_attention(const VectorFile& in) {  // ATT-1 to ATT-11
    const auto q = integers_of<std::int8_t>(in, "q");
    const auto k = integers_of<std::int8_t>(in, "k");
    const auto v = integers_of<std::int8_t>(in, "v");
    const auto scale_k = floats_of(in, "scale_k");
    const auto scale_v = floats_of(in, "scale_v");
    const auto first = integers_of<std::int64_t>(in, "first")[0];
    const auto reader = [&](const auto& all, const auto& scales) {
        return [&](std::int64_t j) {
            const auto i = static_cast<std::size_t>(j - first);
            return CachedVector{std::span(all).subspan(i * q.size(), q.size()), scales[i]};
        };
    };
    std::vector<float> o(q.size());
    attend(q, floats_of(in, "scale_q")[0], reader(k, scale_k), reader(v, scale_v),
           {first, first + static_cast<std::int64_t>(scale_k.size()) - 1}, o);
    return {{"out_o", floats(o)}};
}

VectorFile compute_swiglu(const VectorFile& in) {  // SWI-1
    const auto g = floats_of(in, "g");
    const auto u = floats_of(in, "u");
    std::vector<float> y;
    for (std::size_t i = 0; i < g.size(); ++i)
        y.push_back(swiglu(g[i], u[i]));
    return {{"out_y", floats(y)}};
}

VectorFile compute_moe(const VectorFile& in) {  // MOE-1 to MOE-3
    const auto y = floats_of(in, "y");
    const auto chosen = route(floats_of(in, "logits"), integers_of<int>(in, "n_used")[0]);
    const std::size_t dim = y.size() / chosen.size();
    std::vector<int> experts;
    std::vector<float> weights;
    std::vector<float> acc(dim);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        experts.push_back(chosen[i].expert);
        weights.push_back(chosen[i].weight);
        accumulate_expert(chosen[i].weight, std::span(y).subspan(i * dim, dim), acc);
    }
    return {{"out_experts", integers(experts)},
            {"out_weights", floats(weights)},
            {"out_acc", floats(acc)}};
}

VectorFile compute_sampler(const VectorFile& in) {  // SMP-4 to SMP-10
    SamplingParameters parameters;
    parameters.temperature = floats_of(in, "temperature")[0];
    parameters.top_k = integers_of<int>(in, "top_k")[0];
    parameters.top_p = floats_of(in, "top_p")[0];
    parameters.min_p = floats_of(in, "min_p")[0];
    parameters.seed = in.at("seed").values[0];
    std::vector<int> ids;
    for (std::uint64_t position = 0; position < 32; ++position) {
        auto logits = floats_of(in, "logits");
        ids.push_back(*sample(parameters, {}, {}, {}, position, 0, logits));
    }
    return {{"out_ids", integers(ids)}};
}

VectorFile compute_checksum(const VectorFile& in) {  // CHK-1
    return {{"out_c", word(logits_checksum(floats_of(in, "logits")))}};
}

}  // namespace

std::string to_text(const VectorFile& file) {
    std::string text = "# SPDX-License-Identifier: Apache-2.0\n";
    for (const auto& [key, field] : file) {
        text += fmt::format("{}: {}", key, field.type);
        if (field.type == "text") text += " " + field.text;
        for (const std::uint64_t value : field.values) {
            if (field.type == "f32") text += fmt::format(" {:08x}", value);
            if (field.type == "u64") text += fmt::format(" {:016x}", value);
            if (field.type == "i32") text += fmt::format(" {}", static_cast<std::int64_t>(value));
        }
        text += "\n";
    }
    return text;
}

VectorFile parse_vector(const std::string& text) {
    VectorFile file;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream words(line);
        std::string key;
        VectorField field;
        words >> key >> field.type;
        if (key.empty() || key.back() != ':') throw std::runtime_error("no key: " + line);
        key.pop_back();
        for (std::string value; words >> value;) {
            if (field.type == "text") {
                field.text = value;
            } else if (field.type == "i32") {
                field.values.push_back(static_cast<std::uint64_t>(std::stoll(value)));
            } else {
                field.values.push_back(std::stoull(value, nullptr, 16));
            }
        }
        file[key] = field;
    }
    return file;
}

VectorFile compute(const VectorFile& inputs) {
    static const std::map<std::string, std::function<VectorFile(const VectorFile&)>> kOperations{
        {"quantize", compute_quantize},
        {"rotate", compute_rotate},
        {"linear_e8", compute_linear_e8},
        {"linear_q4_1", compute_linear_q4_1},
        {"norm", compute_norm},
        {"rope", compute_rope},
        {"attention", compute_attention},
        {"swiglu", compute_swiglu},
        {"sampler", compute_sampler},
        {"checksum", compute_checksum},
        {"moe", compute_moe},
    };
    return kOperations.at(inputs.at("operation").text)(inputs);
}

std::map<std::string, VectorFile> golden_inputs() {
    Random random{20261124};
    std::map<std::string, VectorFile> all;
    const auto named = [](const std::string& name) { return VectorField{"text", {}, name}; };
    const auto same = [](std::size_t n, float value) { return std::vector<float>(n, value); };
    all["quantize"] = {{"x", floats(random.floats(100, 0x1.3p-9F))}};
    all["quantize-tiny"] = {{"x", floats(random.floats(32, 1e-33F))}};
    all["quantize-zero"] = {{"x", floats(random.floats(32, 1e-35F))}};
    all["rotate-dct"] = {{"x", floats(random.floats(192, 0x1.1p-9F))}};
    all["rotate"] = {{"x", floats(random.floats(128, 0x1.1p-9F))}};
    all["linear_e8"] = {{"q_w", integers(random.integers(256, -127, 127))},
                        {"q_x", integers(random.integers(256, -127, 127))},
                        {"a", floats({0.01F})},
                        {"d", floats({0.003F})}};
    auto row = random.integers(60, 0, 255);
    for (std::size_t b = 0; b < 3; ++b) {  // finite binary16 d and m
        row[20 * b + 1] &= 0x2F;
        row[20 * b + 3] &= 0xAF;
    }
    all["linear_q4_1"] = {{"row", integers(row)},
                          {"q_x", integers(random.integers(96, -127, 127))},
                          {"a", floats({0.01F, 0.3F, 1.7F})}};
    all["norm"] = {{"h", floats(random.floats(300, 0x1.7p-11F))},
                   {"w", floats(random.floats(300, 0x1.7p-13F))},
                   {"eps", floats({1e-5F})}};
    all["rope"] = {{"head", floats(random.floats(64, 0x1.5p-10F))},
                   {"base", floats({500000.0F})},
                   {"position", integers(std::vector<int>{130001})}};
    all["attention"] = {{"q", integers(random.integers(8, -127, 127))},
                        {"scale_q", floats({0.7F})},
                        {"k", integers(random.integers(8 * 80, -127, 127))},
                        {"v", integers(random.integers(8 * 80, -127, 127))},
                        {"scale_k", floats(same(80, 0.011F))},
                        {"scale_v", floats(same(80, 0.37F))},
                        {"first", integers(std::vector<int>{980})}};
    all["swiglu"] = {{"g", floats(random.floats(64, 0x1.9p-9F))},
                     {"u", floats(random.floats(64, 0x1.9p-12F))}};
    all["sampler"] = {{"logits", floats(random.floats(50, 0x1.3p-12F))},
                      {"temperature", floats({0.8F})},
                      {"top_k", integers(std::vector<int>{40})},
                      {"top_p", floats({0.95F})},
                      {"min_p", floats({0.05F})},
                      {"seed", word(0x0123456789ABCDEF)}};
    all["checksum"] = {{"logits", floats(random.floats(40, 0x1.3p-9F))}};
    auto router = random.floats(16, 0x1.3p-11F);
    router[9] = router[7];  // a tie for the last place
    all["moe"] = {{"logits", floats(router)},
                  {"n_used", integers(std::vector<int>{5})},
                  {"y", floats(random.floats(5 * 24, 0x1.1p-10F))}};
    for (auto& [name, file] : all)
        file["operation"] = named(name.substr(0, name.find('-')));
    return all;
}

}  // namespace etalon::exact
