// SPDX-License-Identifier: Apache-2.0
// What a device offers: a small set of fused operations over a ragged batch. The transformer is
// written once over them; every backend gives the bits that src/exact defines (tests/backend).
//
// A layer, as Backend::layers writes it:
//   backend.norm_linear(batch, h, attn_norm, eps, rotation, x, qkv, y);
//   backend.rope_append(batch, y, rope, layer, kv, queries);
//   backend.attention(batch, queries, layer, sliding_window, kv, o);
//   backend.quantize_linear(batch, o, x_o, attn_output, h);
//   backend.feed_forward(batch, feed_forward, h);  // or experts_feed_forward
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "exact/formats.h"
#include "exact/logprobs.h"
#include "exact/rope.h"
#include "exact/rotate.h"
#include "exact/sampler.h"
#include "weights/model_file.h"

namespace etalon::backend {

/// The forms in which a linear layer reads its input; a group of matrices may need several.
enum ActivationForm : unsigned {
    kRowInt8 = 1,    ///< int8 with one scale a token: e8, e4 (QNT-2)
    kBlockInt8 = 2,  ///< int8 with one scale for 32 elements: blocked GGUF types (QNT-3)
    kFloating = 4,   ///< binary32: f32, f16, bf16 (LIN-7)
};

/// The form that weights of this format are multiplied with.
inline ActivationForm form_of(exact::Format format) {
    switch (exact::format_info(format).kind) {
        case exact::FormatKind::floating:
            return kFloating;
        case exact::FormatKind::blocked:
            return kBlockInt8;
        case exact::FormatKind::row_scaled:
            break;
    }
    return kRowInt8;
}

/// A token of a batch that the host does not know yet: what the pass before draws behind `row` of
/// its logits (Backend::can_follow()). A row that draws none gives a token whose flag is set.
constexpr std::int32_t token_drawn_by(std::size_t row) noexcept {
    return -1 - static_cast<std::int32_t>(row);
}
/// The row of such a token; every other token is at least 0.
constexpr bool is_drawn_before(std::int32_t token) noexcept {
    return token < 0;
}
constexpr std::size_t row_drawing(std::int32_t token) noexcept {
    return static_cast<std::size_t>(-1 - token);
}

/// Tokens of one forward pass, flattened. Tokens of a sequence stand together with consecutive
/// ascending positions. Example, a prompt of 3 and one token of a running answer:
///   tokens {5, 9, 2, 7}, positions {0, 1, 2, 41}, sequence_of {0, 0, 0, 1}; page_tables[1] = {8}
///   says that positions 0..63 of sequence 1 lie in page 8 of the cache.
struct Batch {
    /// [n_tokens], inside the vocabulary, or token_drawn_by()
    std::span<const std::int32_t> tokens;
    std::span<const std::int32_t> positions;                 ///< [n_tokens], absolute, >= 0
    std::span<const std::int32_t> sequence_of;               ///< [n_tokens], index into page_tables
    std::span<const std::vector<std::int32_t>> page_tables;  ///< page p / 64 of position p
    /// [n_tokens], 0 at first; an operation sets 1 where a value is not finite (ERR-1, ERR-2).
    std::span<std::uint8_t> failed;

    int n_tokens() const noexcept { return static_cast<int>(tokens.size()); }
};

/// Floats on the device, [n_rows, n_cols] by convention of the caller, zero at first.
class FloatBuffer {
  public:
    virtual ~FloatBuffer() = default;
    std::size_t size() const noexcept { return size_; }
    float* data() noexcept { return data_; }  ///< a device address
    const float* data() const noexcept { return data_; }

  protected:
    FloatBuffer(float* data, std::size_t size) noexcept : data_(data), size_(size) {}

  private:
    float* data_;
    std::size_t size_;
};

/// A matrix of one or more tensors stacked by rows (q, k and v; gate and up), in the backend's
/// order.
class LinearWeights {
  public:
    virtual ~LinearWeights() = default;
    int n_rows = 0;             ///< sum over the parts
    int n_cols = 0;             ///< K
    unsigned forms_needed = 0;  ///< ActivationForm bits
};

/// The matrices of a layer with experts; those of one kind have one shape.
struct ExpertMatrices {
    std::unique_ptr<LinearWeights> router;                ///< [n_experts, dim], reads floats alone
    std::vector<std::unique_ptr<LinearWeights>> gate_up;  ///< of an expert [2 hidden_dim, dim]
    std::vector<std::unique_ptr<LinearWeights>> down;     ///< of an expert [dim, hidden_dim]
};

class Experts {
  public:
    /// 1 <= n_used <= n_experts, as many matrices of each kind.
    Experts(ExpertMatrices its_matrices, int its_n_used);
    virtual ~Experts() = default;
    int n_experts() const noexcept { return static_cast<int>(matrices.gate_up.size()); }

    ExpertMatrices matrices;
    int n_used;  ///< experts of a token
};

class Embedding {
  public:
    virtual ~Embedding() = default;
    int vocab_size = 0;
    int dim = 0;
};

/// Quantised input of linear layers for up to n_tokens_max tokens.
class Activations {
  public:
    virtual ~Activations() = default;
    int n_tokens_max = 0;
    int n_cols = 0;
    unsigned forms = 0;  ///< ActivationForm bits that are filled
};

/// int8 queries after RoPE and rotation, one scale for each (token, head).
class Queries {
  public:
    virtual ~Queries() = default;
    int n_tokens_max = 0;
    int n_heads = 0;
    int head_dim = 0;
};

struct KvShape {
    int n_layers = 0;
    int n_kv_heads = 0;
    int head_dim = 0;
    int n_pages = 0;  ///< pages of 64 tokens
};

/// Keys (rotated) and values as int8 with one scale for each (layer, position, KV head), in pages.
class KvCache {
  public:
    virtual ~KvCache() = default;
    KvShape shape;
};

/// RoPE of a model: the tables that exact::rope_turns and exact::rope_magnitude give.
struct RopeTables {
    exact::RopePairing pairing = exact::RopePairing::interleaved;
    std::vector<std::uint64_t> turns;  ///< [n_dims / 2]
    float magnitude = 1.0F;
};

/// Copies on the host, for tests and proofs.
struct HostActivations {
    std::vector<std::int8_t> row_q;    ///< [n_tokens, K]
    std::vector<float> row_scales;     ///< [n_tokens]
    std::vector<std::int8_t> block_q;  ///< [n_tokens, K]
    std::vector<float> block_scales;   ///< [n_tokens, K / 32]
    std::vector<float> floats;         ///< [n_tokens, K]
};
struct HostVector {
    std::vector<std::int8_t> q;
    float scale = 0.0F;
};

/// What a forward pass computes beside its batch. Passes that agree in all of this, and whose
/// batches have as many tokens, call the same operations on the same buffers in the same order.
struct Pass {
    std::uint64_t model = 0;  ///< a number that no other model of the process has or had
    int sliding_window = 0;
    int vocab_size = 0;
    std::span<const std::int32_t> rows;  ///< of logits; may be empty
    const KvCache* kv = nullptr;
    const FloatBuffer* logits = nullptr;
};

/// Most tokens of RowLogprobs::top.
inline constexpr int kTopLogitsMax = 32;

/// What log-probabilities of a row are made of (SMP-11, SMP-12), as the model gave its logits.
struct RowLogprobs {
    exact::LogprobSum sum;
    float logit = 0.0F;                               ///< of the token
    std::vector<std::pair<std::int32_t, float>> top;  ///< (id, logit), best first
};

/// How the token behind a row of logits is drawn (SMP-1 to SMP-10): the arguments of exact::sample.
struct Draw {
    const exact::SamplingParameters* parameters = nullptr;  ///< null: this row is not drawn
    std::span<const std::int32_t> prompt;                   ///< read for penalties alone
    std::span<const std::int32_t> answer;                   ///< likewise
    /// Bit id % 32 of word id / 32: the token may come; empty: all may.
    std::span<const std::uint32_t> allowed;
    std::uint64_t position = 0;
    std::uint32_t choice = 0;
    /// Not null: filled for the token and the n_top <= kTopLogitsMax best ones.
    RowLogprobs* logprobs = nullptr;
    int n_top = 0;
};
inline constexpr std::int32_t kNoToken = -1;   ///< ERR-3
inline constexpr std::int32_t kNotDrawn = -2;  ///< the device has no room: the host draws

enum class Store : std::uint8_t {
    replace,  ///< y = W x (+ bias)
    add,      ///< y = y + (W x (+ bias)): the residual (RES-1)
};

/// What a feed-forward layer reads (FWD-3), and rooms that it may fill.
struct FeedForward {
    const FloatBuffer* norm = nullptr;  ///< [dim]
    float eps = 0.0F;
    exact::Rotation dim_rotation;            ///< of the input of gate_up
    const LinearWeights* gate_up = nullptr;  ///< [2 hidden_dim, dim], gate first
    exact::Rotation hidden_rotation;         ///< of the input of down
    const LinearWeights* down = nullptr;     ///< [dim, hidden_dim]
    Activations* x_dim = nullptr;
    FloatBuffer* gate_up_room = nullptr;  ///< [T, 2 hidden_dim]
    Activations* x_hidden = nullptr;
};

/// What a layer with experts reads (FWD-5), and rooms that it may fill. A pair is a token with one
/// of its experts: there are T n_used of them.
struct ExpertsLayer {
    const FloatBuffer* norm = nullptr;  ///< [dim]
    float eps = 0.0F;
    exact::Rotation dim_rotation;     ///< of the input of gate_up
    exact::Rotation hidden_rotation;  ///< of the input of down
    const Experts* experts = nullptr;
    Activations* x_dim = nullptr;           ///< with kFloating
    FloatBuffer* router_logits = nullptr;   ///< [T, n_experts]
    FloatBuffer* gate_up_room = nullptr;    ///< [pairs, 2 hidden_dim]
    Activations* x_hidden = nullptr;        ///< for all pairs
    FloatBuffer* expert_outputs = nullptr;  ///< [pairs, dim]
};

/// The weights of one layer (FWD-2, FWD-3, FWD-5).
struct Layer {
    const FloatBuffer* attn_norm = nullptr;      ///< [dim]
    const LinearWeights* qkv = nullptr;          ///< [(n_heads + 2 n_kv_heads) head_dim, dim]
    const LinearWeights* attn_output = nullptr;  ///< [dim, n_heads head_dim]
    const FloatBuffer* ffn_norm = nullptr;       ///< [dim]
    const LinearWeights* gate_up = nullptr;      ///< [2 hidden_dim, dim], gate first
    const LinearWeights* down = nullptr;         ///< [dim, hidden_dim]
    const Experts* experts = nullptr;            ///< in place of gate_up and down
};

/// The layers of a model, and rooms that they may fill.
struct Layers {
    std::span<const Layer> all;
    float eps = 0.0F;
    exact::Rotation dim_rotation;     ///< of the inputs of qkv and gate_up
    exact::Rotation hidden_rotation;  ///< of the input of down
    const RopeTables* rope = nullptr;
    int sliding_window = 0;
    Activations* x_dim = nullptr;
    Activations* x_heads = nullptr;
    Activations* x_hidden = nullptr;
    Queries* queries = nullptr;
    FloatBuffer* qkv = nullptr;      ///< [T, (n_heads + 2 n_kv_heads) head_dim]
    FloatBuffer* o = nullptr;        ///< [T, n_heads head_dim]
    FloatBuffer* gate_up = nullptr;  ///< [T, 2 hidden_dim]; with experts a row for each pair
    /// With experts alone; x_hidden has room for all pairs then.
    FloatBuffer* router_logits = nullptr;   ///< [T, n_experts]
    FloatBuffer* expert_outputs = nullptr;  ///< [pairs, dim]
};
FeedForward feed_forward_of(const Layers& layers, int index);
ExpertsLayer experts_of(const Layers& layers, int index);

/// A device. One thread at a time calls it; an operation returns when its result can be read by
/// the next one. begin() and finish() around the operations of a forward pass spare a device that
/// works on its own a stop in each of them.
class Backend {
  public:
    virtual ~Backend() = default;
    virtual std::string_view name() const = 0;  ///< "exact", "cpu/avx2", ..., "cuda:0"
    /// Bytes that are free in the device's own memory; nullopt: it uses the machine's.
    virtual std::optional<std::uint64_t> free_bytes() const { return std::nullopt; }

    /// --- at load ---
    /// Bytes that load_linear keeps in memory for one part: a copy in the backend's own order, or
    /// the mapped bytes that it reads in place.
    virtual std::uint64_t linear_bytes(const weights::Tensor& tensor) const = 0;
    /// Bytes of a room that all stacks take turns with, for one part of a stack.
    virtual std::uint64_t linear_room_bytes(const weights::Tensor& /*tensor*/) const { return 0; }
    /// As linear_bytes, for load_embedding.
    virtual std::uint64_t embedding_bytes(const weights::Tensor& tensor) const {
        return tensor.bytes();
    }
    /// Parts share n_cols. `bias` is empty or has one value a row of all parts.
    virtual std::unique_ptr<LinearWeights> load_linear(
        std::span<const weights::Tensor* const> parts, std::span<const float> bias) = 0;
    /// Matrices of load_linear; a device may keep what finds them beside them.
    virtual std::unique_ptr<Experts> make_experts(ExpertMatrices matrices, int n_used) = 0;
    virtual std::unique_ptr<Embedding> load_embedding(const weights::Tensor& tensor) = 0;
    virtual std::unique_ptr<FloatBuffer> make_floats(std::size_t size) = 0;
    virtual std::unique_ptr<Activations> make_activations(int n_tokens_max, int n_cols,
                                                          unsigned forms) = 0;
    virtual std::unique_ptr<Queries> make_queries(int n_tokens_max, int n_heads, int head_dim) = 0;
    virtual std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape) = 0;
    virtual void upload(std::span<const float> from, FloatBuffer& to) = 0;

    /// --- a forward pass; T = batch.n_tokens() ---
    /// What `batch` points to stays as it is until finish(batch); batch.failed holds the flags only
    /// from then on. Optional: an operation on a batch that was not begun sets its flags at once.
    virtual void begin(const Batch& /*batch*/) {}
    /// The same; true: the device knows the pass from an earlier one and has started all of it, so
    /// that only finish(batch) is left to call.
    virtual bool begin(const Batch& batch, const Pass& /*pass*/) {
        begin(batch);
        return false;
    }
    virtual void finish(const Batch& /*batch*/) {}

    /// True: once draw() of a pass has been called, the next one may begin, before finish() of the
    /// first, and its tokens may be those that the first one draws. At most two passes are under
    /// way; all operations of the second one come ahead of finish() of the first, and they are
    /// finished in their order. While the second one runs, checksum() tells of the rows of logits
    /// that the first one had, but the rows themselves are gone: who looks ahead has all of them
    /// drawn. clear_page() comes behind both.
    virtual bool can_follow() const { return false; }

    /// h[T, dim]: rows of the embedding (EMB-1).
    virtual void embed(const Batch& batch, const Embedding& embedding, FloatBuffer& h) = 0;

    /// x from h[T, K]: RMS scale beside z = R(w * h); int8 forms carry a = (amax(z) / 127) * scale;
    /// the floating form is z * scale (NRM-1 to NRM-3, ROT, QNT). The rotation applies to kRowInt8.
    virtual void norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w,
                               float eps, const exact::Rotation& rotation, Activations& x) = 0;
    /// x from v[T, K], no norm, no rotation (the input of attn_output) (QNT).
    virtual void quantize(const Batch& batch, const FloatBuffer& v, Activations& x) = 0;
    /// x from gate_up[T, 2 K] (gate first): R(swiglu(gate, up)) (SWI-1, ROT, QNT).
    virtual void swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                                 const exact::Rotation& rotation, Activations& x) = 0;

    /// y[T, n_rows] (LIN).
    virtual void linear(const Batch& batch, const Activations& x, const LinearWeights& w,
                        Store store, FloatBuffer& y) = 0;
    /// logits[rows.size(), n_rows] for the tokens `rows` (indices into the batch) only.
    virtual void logits(const Batch& batch, const Activations& x, const LinearWeights& head,
                        std::span<const std::int32_t> rows, FloatBuffer& logits) = 0;

    /// Whether the device has draw(); if not, who calls draws from rows on the host.
    virtual bool can_draw(int /*vocab_size*/) const { return false; }
    /// Behind logits(): tokens[i] from logits[i, vocab_size] by draws[i], or kNoToken, kNotDrawn.
    /// They and the log-probabilities are set when finish(batch) returns, kNotDrawn at once, those
    /// of a row that is not drawn stay as they are. Only rows that are not drawn come to the host
    /// with the pass.
    virtual void draw(const Batch& batch, const FloatBuffer& logits, int vocab_size,
                      std::span<const Draw> draws, std::span<std::int32_t> tokens);

    /// From qkv[T, (n_heads + 2 n_kv_heads) * head_dim]: RoPE on q and k, butterfly over the head,
    /// int8; q into queries, k and v into the cache at each token's position (RPE-6, ROT-6, QNT-2).
    virtual void rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope,
                             int layer, KvCache& kv, Queries& queries) = 0;
    /// o[T, n_heads * head_dim]; every key up to the token itself is in the cache (ATT).
    virtual void attention(const Batch& batch, const Queries& queries, int layer,
                           int sliding_window, const KvCache& kv, FloatBuffer& o) = 0;

    /// h = h + the outputs of each token's experts, which the router chooses (FWD-5, MOE). A device
    /// of its own chooses on itself: the host does not wait. What the rooms hold afterwards is not
    /// defined.
    virtual void experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                                      FloatBuffer& h) = 0;

    /// --- operations that follow each other, which a device may take together --- The defaults
    /// are those operations. What the activations and the room hold afterwards is not defined.
    /// norm_quantize of h, and y[T, n_rows] = W x.
    virtual void norm_linear(const Batch& batch, const FloatBuffer& h, const FloatBuffer& norm,
                             float eps, const exact::Rotation& rotation, Activations& x,
                             const LinearWeights& w, FloatBuffer& y);
    /// quantize of v, and h = h + W x.
    virtual void quantize_linear(const Batch& batch, const FloatBuffer& v, Activations& x,
                                 const LinearWeights& w, FloatBuffer& h);
    /// h = h + down(R(swiglu(gate_up(norm(h))))).
    virtual void feed_forward(const Batch& batch, const FeedForward& layer, FloatBuffer& h);
    /// h after all layers; keys and values go to the cache (FWD-2, FWD-3, FWD-5).
    virtual void layers(const Batch& batch, const Layers& layers, KvCache& kv, FloatBuffer& h);

    /// --- between passes ---
    /// Zeroes keys, values and scales of `page` in every layer, as read_key and read_value show
    /// them, so that what one sequence left cannot be read by the next one that gets the page.
    virtual void clear_page(KvCache& kv, int page) = 0;

    /// --- reading back ---
    virtual void download(const FloatBuffer& from, std::size_t offset, std::span<float> to) = 0;
    /// CHK-1 over logits[row * vocab_size .. + vocab_size].
    virtual std::uint64_t checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) = 0;
    /// --- rows of logits on the host, for the sampler; any thread calls them ---
    /// Integer maximum of the bits without signs: kInfinityBits or more when one is not finite
    /// (QNT-1).
    virtual std::uint32_t amax_bits(std::span<const float> row) const;
    /// The largest of at least one value, none of them NaN (SMP-4). Either zero for equal zeros.
    virtual float largest(std::span<const float> row) const;
    /// p[i] = P of SMP-5, at most 2^31. No logit is NaN or above `largest`; -infinity gives 0.
    virtual void probability_units(std::span<const float> logits, float largest,
                                   float inverse_temperature, std::span<std::uint32_t> p) const;

    virtual HostActivations read(const Activations& x, int n_tokens) = 0;
    virtual HostVector read_query(const Queries& queries, int token, int head) = 0;
    virtual HostVector read_key(const KvCache& kv, int layer, int page, int slot, int head) = 0;
    virtual HostVector read_value(const KvCache& kv, int layer, int page, int slot, int head) = 0;
};

/// The reference: every operation by src/exact, plain loops, one thread of a pool for each token.
std::unique_ptr<Backend> make_exact_backend(int n_threads);

/// Instruction sets of the CPU backend in order of preference, best last.
enum class Isa : std::uint8_t { generic, avx2, avx512 };
std::string_view isa_name(Isa isa);
/// True when this processor and kernel run it: avx2 needs AVX2, FMA and F16C; avx512 needs F, BW,
/// DQ, VL and VNNI too.
bool isa_is_available(Isa isa);
/// ETALON_ISA when set, else the best available. Errors: usage (unknown name, or not available).
Isa choose_isa(const char* forced);
std::unique_ptr<Backend> make_cpu_backend(Isa isa, int n_threads);

}  // namespace etalon::backend
