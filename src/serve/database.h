// SPDX-License-Identifier: Apache-2.0
// SQLite with write-ahead log and numbered migrations.
//   Database database(path);
//   Statement insert(database, "INSERT INTO tenants(name) VALUES(?)");
//   insert.bind(1, name).run();
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace etalon::serve {

/// One connection, used by one thread. Several processes may have the file open at once.
class Database {
  public:
    /// Creates file (0600) and folders (0700) as needed, then applies the migrations that are
    /// missing, each in a transaction. Errors: failure (file system, SQLite), invalid (the file is
    /// no database, or a later version of the program has migrated it).
    explicit Database(const std::filesystem::path& path);
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    void run(const char* sql);
    /// What was deleted leaves the file, its free pages and the write-ahead log. Errors:
    /// unavailable (another program reads it now), failure.
    void scrub();
    /// A whole copy in a new file (0600), without free pages, while others write. Errors: failure.
    void copy_to(const std::filesystem::path& path);
    std::int64_t last_id() const;
    int n_changed() const;
    sqlite3* handle() const { return handle_.get(); }
    /// Errors: failure, always; with SQLite's own message.
    [[noreturn]] void fail(const char* doing) const;

  private:
    struct Close {
        void operator()(sqlite3* handle) const;
    };
    void migrate();

    std::filesystem::path path_;
    std::unique_ptr<sqlite3, Close> handle_;
};

/// Parameters are numbered from 1, columns from 0. Errors: failure (SQLite).
class Statement {
  public:
    Statement(Database& database, const char* sql);
    ~Statement();
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    Statement& bind(int parameter, std::int64_t value);
    Statement& bind(int parameter, std::string_view text);
    Statement& bind(int parameter, const std::optional<std::int64_t>& value);

    /// True while there is a row.
    bool next();
    /// Runs to the end and forgets the parameters.
    void run();

    std::int64_t integer(int column) const;
    std::optional<std::int64_t> optional_integer(int column) const;
    std::string text(int column) const;

  private:
    Database& database_;
    sqlite3_stmt* handle_ = nullptr;
};

}  // namespace etalon::serve
