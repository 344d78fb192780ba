// SPDX-License-Identifier: Apache-2.0
// SQLite and the migrations of the server's tables.
#include "serve/database.h"

#include <array>
#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::serve {

namespace {

/// How long a writer waits for another process: `etalon key` while the server counts tokens.
constexpr int kBusyMilliseconds = 5000;

/// Migration i brings a database from version i to i + 1. They are never changed, only added to.
constexpr std::array<const char*, 1> kMigrations{
    "CREATE TABLE tenants("
    "  id INTEGER PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE,"
    "  created INTEGER NOT NULL);"
    "CREATE TABLE keys("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  tenant_id INTEGER NOT NULL REFERENCES tenants(id),"
    "  hash TEXT NOT NULL UNIQUE,"
    "  prefix TEXT NOT NULL,"
    "  scopes TEXT NOT NULL,"
    "  tokens_per_day INTEGER,"
    "  requests_per_minute INTEGER,"
    "  created INTEGER NOT NULL,"
    "  expires INTEGER,"
    "  revoked INTEGER);"
    "CREATE TABLE usage("
    "  key_id INTEGER NOT NULL REFERENCES keys(id),"
    "  day INTEGER NOT NULL,"
    "  requests INTEGER NOT NULL,"
    "  prompt_tokens INTEGER NOT NULL,"
    "  answer_tokens INTEGER NOT NULL,"
    "  PRIMARY KEY(key_id, day)) WITHOUT ROWID;",
};

/// The file is made before SQLite opens it, so that it never exists with wider permissions.
void make_file(const std::filesystem::path& path) {
    std::error_code error;
    const std::filesystem::path folder = path.parent_path();
    if (!folder.empty() && std::filesystem::create_directories(folder, error)) {
        std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
    }
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot open the database ({})", printable(path.string())),
                    "XDG_DATA_HOME names another folder for data");
    }
    ::close(fd);
}

}  // namespace

Database::Database(const std::filesystem::path& path) : path_(path) {
    make_file(path);
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
    handle_.reset(handle);  // there is one after an error too
    if (code != SQLITE_OK) fail("open");
    sqlite3_busy_timeout(handle, kBusyMilliseconds);
    run("PRAGMA journal_mode = WAL");
    run("PRAGMA synchronous = NORMAL");
    run("PRAGMA foreign_keys = ON");
    run("PRAGMA secure_delete = ON");  // deleted rows are overwritten, not only unlinked
    migrate();
}

void Database::Close::operator()(sqlite3* handle) const {
    sqlite3_close_v2(handle);
}

void Database::fail(const char* doing) const {
    const std::string name = printable(path_.string());
    const int code = !handle_ ? SQLITE_NOMEM : sqlite3_errcode(handle_.get());
    const char* message = !handle_ ? "out of memory" : sqlite3_errmsg(handle_.get());
    if (code == SQLITE_NOTADB) {
        throw Error(ExitCode::invalid, fmt::format("{} is no database", name));
    }
    throw Error(ExitCode::failure, fmt::format("cannot {}: {} ({})", doing, message, name));
}

void Database::run(const char* sql) {
    if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
        fail("use database");
}

void Database::scrub() {
    // The copy that VACUUM makes has no free pages; the log with the former pages is cut to
    // nothing.
    run("VACUUM");
    Statement checkpoint(*this, "PRAGMA wal_checkpoint(TRUNCATE)");
    const bool is_busy = !checkpoint.next() || checkpoint.integer(0) != 0;
    if (!is_busy) return;
    throw Error(ExitCode::unavailable,
                fmt::format("another program reads {}: its log still holds what was deleted",
                            printable(path_.string())),
                "try again");
}

void Database::copy_to(const std::filesystem::path& path) {
    make_file(path);  // SQLite fills an empty file
    Statement(*this, "VACUUM INTO ?").bind(1, std::string_view(path.native())).run();
}

std::int64_t Database::last_id() const {
    return sqlite3_last_insert_rowid(handle_.get());
}

int Database::n_changed() const {
    return sqlite3_changes(handle_.get());
}

void Database::migrate() {
    // The write lock comes first: two processes that start at once migrate one after the other.
    run("BEGIN IMMEDIATE");
    std::int64_t version = 0;
    {
        Statement ask(*this, "PRAGMA user_version");
        if (ask.next()) version = ask.integer(0);
    }
    if (version > static_cast<std::int64_t>(kMigrations.size())) {
        throw Error(ExitCode::invalid,
                    fmt::format("the database has version {}, this program knows {} ({})", version,
                                kMigrations.size(), printable(path_.string())),
                    "use the program that wrote it, or a later one");
    }
    for (auto i = static_cast<std::size_t>(version); i < kMigrations.size(); ++i) {
        run(kMigrations[i]);
        run(fmt::format("PRAGMA user_version = {}", i + 1).c_str());
    }
    run("COMMIT");
}

Statement::Statement(Database& database, const char* sql) : database_(database) {
    if (sqlite3_prepare_v2(database.handle(), sql, -1, &handle_, nullptr) != SQLITE_OK) {
        database.fail("use database");
    }
}

Statement::~Statement() {
    sqlite3_finalize(handle_);
}

Statement& Statement::bind(int parameter, std::int64_t value) {
    ETALON_ASSERT(sqlite3_bind_int64(handle_, parameter, value) == SQLITE_OK);
    return *this;
}

Statement& Statement::bind(int parameter, std::string_view text) {
    const int size = static_cast<int>(text.size());
    // Copied by SQLite: the text may be gone before the statement runs.
    ETALON_ASSERT(sqlite3_bind_text(handle_, parameter, text.data(), size,
                                    SQLITE_TRANSIENT) == SQLITE_OK);  // NOLINT
    return *this;
}

Statement& Statement::bind(int parameter, const std::optional<std::int64_t>& value) {
    if (value) return bind(parameter, *value);
    ETALON_ASSERT(sqlite3_bind_null(handle_, parameter) == SQLITE_OK);
    return *this;
}

bool Statement::next() {
    const int code = sqlite3_step(handle_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) database_.fail("use database");
    return code == SQLITE_ROW;
}

void Statement::run() {
    while (next()) {
    }
    sqlite3_reset(handle_);
    sqlite3_clear_bindings(handle_);
}

std::int64_t Statement::integer(int column) const {
    return sqlite3_column_int64(handle_, column);
}

std::optional<std::int64_t> Statement::optional_integer(int column) const {
    if (sqlite3_column_type(handle_, column) == SQLITE_NULL) return std::nullopt;
    return integer(column);
}

std::string Statement::text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
    const int size = sqlite3_column_bytes(handle_, column);
    return bytes == nullptr ? "" : std::string(bytes, static_cast<std::size_t>(size));
}

}  // namespace etalon::serve
