// SPDX-License-Identifier: Apache-2.0
// The commands of the program. Each lies in the file of its name (stop beside ps) and adds itself
// to the parser:
//   CLI::App app; add_show(app); app.parse(argc, argv);
// A command runs in the callback of its subcommand. It writes its result to stdout, messages to
// stderr, and throws Error when something is wrong (main.cpp prints it and exits with its code).
#pragma once

namespace CLI {
class App;
}

namespace etalon::cli {

void add_audit(CLI::App& app);
void add_backup(CLI::App& app);
void add_bench(CLI::App& app);
void add_chat(CLI::App& app);
void add_config(CLI::App& app);
void add_courier(CLI::App& app);
void add_doctor(CLI::App& app);
void add_erase(CLI::App& app);
void add_eval(CLI::App& app);
void add_import(CLI::App& app);
void add_key(CLI::App& app);
void add_ledger(CLI::App& app);
void add_licence(CLI::App& app);
void add_ps(CLI::App& app);
void add_replay(CLI::App& app);
void add_run(CLI::App& app);
void add_serve(CLI::App& app);
void add_show(CLI::App& app);
void add_sign(CLI::App& app);
void add_stop(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_verify(CLI::App& app);
void add_witness(CLI::App& app);
void add_worker(CLI::App& app);

}  // namespace etalon::cli
