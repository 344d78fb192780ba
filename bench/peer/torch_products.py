#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the products of a layer of a 7B model in PyTorch (cuBLAS): bf16, fp8 and int8, beside which
`etalon bench --operations` prints its own of the same shapes on the same card. The int8 product
ends with integers: scales, as both need them, are not in its time.

usage: bench/peer/torch_products.py [--tokens 64 256 2048]

Each figure is the median of replays of a graph that goes over more weights than the second cache
holds. Needs torch with CUDA.
"""
import argparse
import statistics

import torch

# rows, columns
MATRICES = {"qkv": (6144, 4096), "attn_output": (4096, 4096), "gate, up": (28672, 4096),
            "ffn_down": (4096, 14336)}
WEIGHT_BYTES = 400 << 20  # of one round: several times the second cache
ROUNDS = 9


def bf16(x, w):
    return torch.mm(x, w.t())


def fp8(x, w, one=torch.ones((), device="cuda")):
    return torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def int8(x, w):
    return torch._int_mm(x, w.t())


# Of the codes of an imported row, as src/weights/synthetic.cpp makes them.
E8_DEVIATION = 33.5
KINDS = {"bf16": (torch.bfloat16, bf16), "fp8": (torch.float8_e4m3fn, fp8),
         "int8": (torch.int8, int8)}


def matrix(rows, columns, dtype):
    if dtype == torch.int8:
        normal = torch.randn(rows, columns, device="cuda") * E8_DEVIATION
        return normal.round().clamp(-127, 127).to(dtype)
    return torch.randn(rows, columns, device="cuda").to(dtype)


def microseconds(tokens, rows, columns, dtype, product):
    size = torch.empty((), dtype=dtype).element_size()
    copies = max(2, WEIGHT_BYTES // (rows * columns * size))
    weights = [matrix(rows, columns, dtype) for _ in range(copies)]
    x = matrix(tokens, columns, dtype)
    for w in weights[:2]:
        product(x, w)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for w in weights:
            product(x, w)
    times = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end) / copies)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 2048])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, us a product\n")
    print(f"| tokens | kind | {' | '.join(MATRICES)} |")
    print("|---|---|" + "---|" * len(MATRICES))
    for tokens in options.tokens:
        for kind, (dtype, product) in KINDS.items():
            times = [microseconds(tokens, rows, columns, dtype, product)
                     for rows, columns in MATRICES.values()]
            print(f"| {tokens:,} | {kind} | {' | '.join(f'{t:.1f}' for t in times)} |")


if __name__ == "__main__":
    main()
