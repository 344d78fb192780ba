// SPDX-License-Identifier: Apache-2.0
// Writes spec/vectors from src/exact: make_exact_vectors DIRECTORY.
#include <cstdio>
#include <fstream>
#include <string>

#include "exact/vectors.h"

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: make_exact_vectors DIRECTORY\n", stderr);
        return 2;
    }
    for (auto [name, file] : etalon::exact::golden_inputs()) {
        file.merge(etalon::exact::compute(file));
        std::ofstream out(std::string(argv[1]) + "/" + name + ".txt");
        out << etalon::exact::to_text(file);
        if (!out.flush()) return 1;
    }
    return 0;
}
