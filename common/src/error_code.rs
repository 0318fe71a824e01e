//! Every error code there is, in one place: what programs match on, and what docs/errors.md lists.

mod text;

macro_rules! error_codes {
    ($($(#[doc = $meaning:literal])+ $name:ident = $text:literal,)+) => {
        /// The kind of an error: stable between versions, for programs. Codes that begin with
        /// `spec::` are of a pipeline file, those with `plan::` of its plan, all others of an
        /// attempt.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl ErrorCode {
            /// All of them, by kind and then by name.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as it is stored, sent and shown: `spec::unknown_key`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it tells, in one sentence of Markdown.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+),)+
                }
            }
        }
    };
}

error_codes! {
    /// A name holds a character that names may not hold, or is too long.
    SpecBadName = "spec::bad_name",
    /// A parameter has no value of its type.
    SpecBadParam = "spec::bad_param",
    /// A `${…}` is not closed, names nothing, or stands where none is taken.
    SpecBadReference = "spec::bad_reference",
    /// A value cannot be read as what the key takes.
    SpecBadValue = "spec::bad_value",
    /// The statements of a step cannot be read, or cannot be one transaction.
    SpecBadScript = "spec::bad_script",
    /// Two keys contradict each other.
    SpecConflict = "spec::conflict",
    /// The query of a check is not one statement about `{table}`.
    SpecCheckSql = "spec::check_sql",
    /// Steps depend on each other in a circle.
    SpecCycle = "spec::cycle",
    /// A key is there twice.
    SpecDuplicateKey = "spec::duplicate_key",
    /// `end` does not lie behind `start`.
    SpecEmptyRange = "spec::empty_range",
    /// A key is a number, a list or a map.
    SpecKeyIsNoText = "spec::key_is_no_text",
    /// A password stands in the file: take it from `${env:…}` or `${file:…}`.
    SpecLiteralPassword = "spec::literal_password",
    /// A secret is taken in where it would be shown.
    SpecMisplacedSecret = "spec::misplaced_secret",
    /// A key that must be there is not.
    SpecMissingKey = "spec::missing_key",
    /// A parameter without a default got no value.
    SpecMissingParam = "spec::missing_param",
    /// A stored document is not in the form in which this version writes it.
    SpecNotCanonical = "spec::not_canonical",
    /// The key or word is planned and not built.
    SpecNotSupportedYet = "spec::not_supported_yet",
    /// A number or duration is too small or too large.
    SpecOutOfRange = "spec::out_of_range",
    /// A value reads as a number, a date or a boolean where text is meant: quote it.
    SpecQuoteIt = "spec::quote_it",
    /// A step writes into a connection that is `read_only`.
    SpecReadOnly = "spec::read_only",
    /// An item of a list is there twice.
    SpecRepeated = "spec::repeated",
    /// A step would read or write the tables of the ledger.
    SpecReservedTable = "spec::reserved_table",
    /// A step would read the table that it writes.
    SpecSameTable = "spec::same_table",
    /// The file is too large to be a pipeline.
    SpecTooLarge = "spec::too_large",
    /// Two steps write the same table.
    SpecTwoWriters = "spec::two_writers",
    /// A step names a connection that the file does not have.
    SpecUnknownConnection = "spec::unknown_connection",
    /// A key that does not exist here; the message names the nearest one.
    SpecUnknownKey = "spec::unknown_key",
    /// A parameter that the file does not declare.
    SpecUnknownParam = "spec::unknown_param",
    /// A step names a pool that the file does not have.
    SpecUnknownPool = "spec::unknown_pool",
    /// `depends_on` names a step that the file does not have.
    SpecUnknownStep = "spec::unknown_step",
    /// A word that is not among those that the key takes.
    SpecUnknownWord = "spec::unknown_word",
    /// A document could not be read although nothing wrong was found in it: a defect to report.
    SpecUnreadable = "spec::unreadable",
    /// A file that a step names cannot be read: it is missing, no file, no text, or too large.
    SpecUnreadableFile = "spec::unreadable_file",
    /// A parameter that nothing in the file takes in.
    SpecUnusedParam = "spec::unused_param",
    /// A list or map has too few or too many entries.
    SpecWrongCount = "spec::wrong_count",
    /// A value has another type than the key takes.
    SpecWrongType = "spec::wrong_type",
    /// The file is not YAML.
    SpecYaml = "spec::yaml",
    /// `append` would load again what is loaded already.
    PlanAppendAgain = "plan::append_again",
    /// `start` or `end` cannot be read as a position of the partition column.
    PlanBound = "plan::bound",
    /// The column that cuts the table is cast.
    PlanCastPartition = "plan::cast_partition",
    /// Nothing says which clock stamps a cursor of times without a zone, or one is named in vain.
    PlanCursorZone = "plan::cursor_zone",
    /// Two columns would have the same name in the target.
    PlanColumnNamesCollide = "plan::column_names_collide",
    /// Earlier runs loaded the stream by partitions of another kind.
    PlanCoverageKind = "plan::coverage_kind",
    /// A partition is loaded in part by earlier runs of other partitions.
    PlanCoveredInPieces = "plan::covered_in_pieces",
    /// The target's table cannot be created like the source's.
    PlanCreateSource = "plan::create_source",
    /// There is nothing between `start` and `end`.
    PlanEmptyRange = "plan::empty_range",
    /// The target cannot let one table take the place of another.
    PlanExchangeUnsupported = "plan::exchange_unsupported",
    /// The target computes a column that would be written.
    PlanGeneratedTargetColumn = "plan::generated_target_column",
    /// `horizon` does not fit the cursor, or the source.
    PlanHorizon = "plan::horizon",
    /// A rule of the target rewrites what is inserted.
    PlanInsertRule = "plan::insert_rule",
    /// A check names a column that the target does not have.
    PlanCheckColumn = "plan::check_column",
    /// The target is a copy, and nobody knows up to where of the source's log.
    PlanLogGap = "plan::log_gap",
    /// The target has no key or unique index of exactly the columns that rows are merged by.
    PlanMergeKey = "plan::merge_key",
    /// The target has no column for one of the source.
    PlanMissingTargetColumn = "plan::missing_target_column",
    /// No column is left to be copied.
    PlanNoColumns = "plan::no_columns",
    /// The facts of a table are missing: plan again.
    PlanNotProbed = "plan::not_probed",
    /// Rows hold NULL in the partition column, and `nulls: fail` is declared.
    PlanNullRows = "plan::null_rows",
    /// Nobody could say whether rows hold NULL in the partition column, and `nulls: fail` is
    /// declared.
    PlanNullRowsUnknown = "plan::null_rows_unknown",
    /// A column of the key allows NULL.
    PlanNullableKey = "plan::nullable_key",
    /// The partition column holds its positions in a form that cannot be cut.
    PlanPartitionForm = "plan::partition_form",
    /// The grain is finer than the partition column's type.
    PlanPartitionGrain = "plan::partition_grain",
    /// The partition column cannot be cut in the declared way.
    PlanPartitionKind = "plan::partition_kind",
    /// A time zone is declared for a column that has none.
    PlanPartitionZone = "plan::partition_zone",
    /// Rows of the source are in no partition, and `rows: all` is declared.
    PlanRowsInNoPartition = "plan::rows_in_no_partition",
    /// Deleting rows of the target would delete or change rows of other tables.
    PlanReferencedTable = "plan::referenced_table",
    /// The stored rule of a plan cannot be read: plan again.
    PlanStoredRule = "plan::stored_rule",
    /// The table is too large to be replaced in one transaction.
    PlanTooLargeInPlace = "plan::too_large_in_place",
    /// There would be more partitions than a step may have.
    PlanTooManyPartitions = "plan::too_many_partitions",
    /// `triggers: skip` is declared, and the role may not skip them.
    PlanTriggersNotSkipped = "plan::triggers_not_skipped",
    /// A column's type does not carry every value of the source's: see [types.md](types.md).
    PlanTypeMismatch = "plan::type_mismatch",
    /// Something hangs on the target's table that would not go along when another one takes its
    /// place.
    PlanUncarriedDependant = "plan::uncarried_dependant",
    /// A column of the target needs a value and gets none.
    PlanUnfedTargetColumn = "plan::unfed_target_column",
    /// The source has no such column.
    PlanUnknownColumn = "plan::unknown_column",
    /// `write.cursor` names a column that is not copied.
    PlanUnknownCursor = "plan::unknown_cursor",
    /// `write.key` names a column that is not copied.
    PlanUnknownKeyColumn = "plan::unknown_key_column",
    /// There is no such time zone.
    PlanUnknownZone = "plan::unknown_zone",
    /// No window can be made between the watermark and what is safe to read.
    PlanWindow = "plan::window",
    /// The answer of the database's thread was lost; the next attempt asks the ledger.
    AnswerLost = "answer_lost",
    /// The database cannot apply the changes of a log.
    ApplyUnsupported = "apply_unsupported",
    /// The attempt took longer than `limits.attempt`.
    AttemptTimeout = "attempt_timeout",
    /// A text is no position of the column that it is meant for.
    BadPosition = "bad_position",
    /// The rows of the source broke off.
    BrokenStream = "broken_stream",
    /// A column of text holds bytes that are no text.
    BytesInText = "bytes_in_text",
    /// The database's file, or its folder, cannot be opened.
    CannotOpen = "cannot_open",
    /// A column cannot be read as the type that `from.columns` names.
    CastImpossible = "cast_impossible",
    /// A check of the step was not met; the message says which, and what was found.
    CheckFailed = "check_failed",
    /// What a check asks, the database cannot answer.
    CheckUnsupported = "check_unsupported",
    /// Another session holds the task's row of the ledger.
    ClaimBlocked = "claim_blocked",
    /// The answer to a COMMIT was lost, and the ledger could not be asked; the next attempt asks
    /// it.
    CommitUnknown = "commit_unknown",
    /// The connection broke.
    ConnectionLost = "connection_lost",
    /// Rows break a constraint of the target.
    ConstraintViolation = "constraint_violation",
    /// The target did not count as many rows as were written into it.
    CountMismatch = "count_mismatch",
    /// The stream was loaded in more pieces than one plan can take in.
    CoverageTooScattered = "coverage_too_scattered",
    /// What the ledger holds of the stream changed between each plan and its beginning.
    CoverageUnsettled = "coverage_unsettled",
    /// Workers died with the task in hand; it is not tried again.
    CrashesItsWorkers = "crashes_its_workers",
    /// SQLite found its file damaged.
    DatabaseCorrupt = "database_corrupt",
    /// Another connection holds the lock of the file.
    DatabaseLocked = "database_locked",
    /// A value does not fit the column's declared type.
    DatatypeMismatch = "datatype_mismatch",
    /// The server ended a deadlock by ending this transaction.
    Deadlock = "deadlock",
    /// The disk of the database is full.
    DiskFull = "disk_full",
    /// The database's driver failed in a way that is on no list.
    DriverError = "driver_error",
    /// The database cannot let one table take the place of another.
    ExchangeUnsupported = "exchange_unsupported",
    /// The source has no row, and the target has some: see `allow_empty`.
    EmptySource = "empty_source",
    /// What was read of a table is larger than the store takes.
    FactsTooLarge = "facts_too_large",
    /// A build for tests was told to fail here.
    Failpoint = "failpoint",
    /// Another session holds what the fence needs.
    FenceBlocked = "fence_blocked",
    /// A former attempt of the task ended while its commit was awaited.
    FormerAttemptEnded = "former_attempt_ended",
    /// The open transactions of a source cannot be seen, so nobody knows what is safe to read.
    HorizonUnreadable = "horizon_unreadable",
    /// A worker answered with a token that nobody gave out.
    ImpossibleToken = "impossible_token",
    /// Nobody knows whether something was done: look, and say so by `highwater resolve`.
    InDoubt = "in_doubt",
    /// The attempt was given up while the statement ran.
    Interrupted = "interrupted",
    /// The disk did not answer as it should.
    IoError = "io_error",
    /// The target has its table and no ledger; nobody knows which rows are in it.
    LedgerMissing = "ledger_missing",
    /// The ledger's own tables are neither copied nor written by steps.
    LedgerTable = "ledger_table",
    /// A row of the ledger cannot be read.
    LedgerUnreadable = "ledger_unreadable",
    /// Another session held a lock for too long.
    LockTimeout = "lock_timeout",
    /// The server refuses the user.
    LoginRefused = "login_refused",
    /// What was read of a table cannot be stored.
    MalformedFacts = "malformed_facts",
    /// The task's order does not fit its kind: run one version of coordinator and worker.
    MalformedOrder = "malformed_order",
    /// A worker's answer does not fit its task: run one version of coordinator and worker.
    MalformedOutcome = "malformed_outcome",
    /// A reference to a secret cannot be read.
    MalformedReference = "malformed_reference",
    /// The connection's URL cannot be read.
    MalformedUrl = "malformed_url",
    /// Another session reads the replication slot.
    LogInUse = "log_in_use",
    /// The source's log no longer has all that the target lacks; copy the table anew.
    LogGap = "log_gap",
    /// The log changes rows that the target does not have as the source had; copy the table anew.
    LogMismatch = "log_mismatch",
    /// The source's log tells what nobody can apply.
    LogUnreadable = "log_unreadable",
    /// The source keeps no log that this table can be followed by; the message says what to change.
    LogUnsupported = "log_unsupported",
    /// The database cannot merge rows by their key.
    MergeUnsupported = "merge_unsupported",
    /// A task came without its order: run one version of coordinator and worker.
    MissingOrder = "missing_order",
    /// The user lacks a right; the message says which to grant.
    MissingRight = "missing_right",
    /// The file is no SQLite database.
    NotADatabase = "not_a_database",
    /// A column of booleans holds something else.
    NotBoolean = "not_boolean",
    /// A column holds bytes that are not written in hexadecimal.
    NotHex = "not_hex",
    /// A column of numbers holds something else.
    NotReal = "not_real",
    /// A column of times holds what is none.
    NotTime = "not_time",
    /// A column holds bytes that are no UTF-8.
    NotUtf8 = "not_utf8",
    /// A column of whole numbers holds something else.
    NotWhole = "not_whole",
    /// No exchange of the step has kept a table that could come back.
    NothingToUndo = "nothing_to_undo",
    /// A text holds the character NUL, which PostgreSQL does not take.
    NulInText = "nul_in_text",
    /// A column of bytes holds a number.
    NumberInBytes = "number_in_bytes",
    /// A column of times holds a number.
    NumberInTime = "number_in_time",
    /// A number is too large for the target's column.
    NumericOverflow = "numeric_overflow",
    /// The database has no memory left.
    OutOfMemory = "out_of_memory",
    /// The partition column holds positions in several forms.
    PartitionForm = "partition_form",
    /// The stream has another plan by now; the task belongs to an older one.
    PlanChanged = "plan_changed",
    /// The bounds of the partition column took too long to read.
    ProbeTimeout = "probe_timeout",
    /// A step's program, or its probe, has ended with another code than 0.
    ProgramFailed = "program_failed",
    /// A step's program is none of those that the worker allows, or cannot be started.
    ProgramNotAllowed = "program_not_allowed",
    /// The database takes no writes: a standby, or a file without the right to write.
    ReadOnly = "read_only",
    /// A receipt of the ledger tells of a part that cannot be.
    ReceiptInPart = "receipt_in_part",
    /// The ledger holds receipts, and the table is gone, empty or made anew: see
    /// [protocol.md](protocol.md#receipts-and-their-table).
    ReceiptsWithoutRows = "receipts_without_rows",
    /// `from.query` is not one SELECT, or a column of its answer has no name of its own.
    QueryRefused = "query_refused",
    /// The server refused for a reason that is on no list; its SQLSTATE is in the message.
    RefusedByServer = "refused_by_server",
    /// The worker gave the task back.
    Released = "released",
    /// Rows of one key came together, and no cursor tells which of them is the newest.
    RepeatedKey = "repeated_key",
    /// After `replace_partition` the range does not hold the rows that were written.
    ReplacedRangeCountsDifferently = "replaced_range_counts_differently",
    /// The target's range holds rows without a receipt: see `write.resident`.
    ResidentRows = "resident_rows",
    /// The server has reached one of its limits.
    ResourcesExhausted = "resources_exhausted",
    /// Rows were asked in a form that the source does not give.
    RowFormat = "row_format",
    /// Row level security would leave out rows.
    RowLevelSecurity = "row_level_security",
    /// A row has another number of values than there are columns.
    RowShape = "row_shape",
    /// A row is larger than one message may be.
    RowTooLarge = "row_too_large",
    /// Rows of the source were in no partition when the step ended.
    RowsInNoPartition = "rows_in_no_partition",
    /// The table has changed since it was planned.
    SchemaChanged = "schema_changed",
    /// The schema changed while the statement was prepared.
    SchemaMoved = "schema_moved",
    /// The server could not serialize the transaction.
    SerializationFailure = "serialization_failure",
    /// The server is starting or stopping.
    ServerStarting = "server_starting",
    /// The server ended the session.
    SessionEnded = "session_ended",
    /// The server ended a session that idled.
    SessionTimedOut = "session_timed_out",
    /// A setting that changes values could not be set for the session.
    SettingNotPinned = "setting_not_pinned",
    /// The table that is to take the place of the one that is read does not hold what was loaded into it.
    ShadowIncomplete = "shadow_incomplete",
    /// The table that is to take the place of the one that is read is gone, or not like it.
    ShadowUnfit = "shadow_unfit",
    /// The source has less than half of the rows that the target has: see `allow_shrink`.
    ShrunkSource = "shrunk_source",
    /// The database did not answer in time.
    Silent = "silent",
    /// The session that held a point in time of the source has ended.
    SnapshotLost = "snapshot_lost",
    /// The database cannot publish rows that wait in a table beside.
    StagingUnsupported = "staging_unsupported",
    /// A view, a function or a policy of the source writes when it is read.
    SourceWrites = "source_writes",
    /// The pipeline's step is not the one that the task was planned for.
    SpecChanged = "spec_changed",
    /// SQLite refused for a reason that is on no list.
    SqlError = "sql_error",
    /// The database cannot run the statements of a step in the transaction of its receipt.
    SqlUnsupported = "sql_unsupported",
    /// The attempt moved no byte for `limits.stall`.
    Stalled = "stalled",
    /// A statement took longer than the server lets it.
    StatementTimeout = "statement_timeout",
    /// The database tells nothing that a recommendation could be made of.
    SurveyUnsupported = "survey_unsupported",
    /// Another session held a lock that an exchange of tables needs; nobody waits behind it any more.
    SwapBlocked = "swap_blocked",
    /// Rows came before the table was held: a defect to report.
    TableNotHeld = "table_not_held",
    /// The source is not what the target follows any more, and no log tells why: copy the table anew.
    SourceChanged = "source_changed",
    /// The target is another server, or another life of it, than the one that was prepared.
    TargetChanged = "target_changed",
    /// The target lost commits again and again.
    TargetKeepsLosing = "target_keeps_losing",
    /// The ledger belongs to another cluster.
    TargetOfAnotherCluster = "target_of_another_cluster",
    /// Another table has the name of the one that was planned for.
    TargetReplaced = "target_replaced",
    /// A text is longer than the target's column.
    TextTooLong = "text_too_long",
    /// A certificate or key cannot be read.
    TlsFile = "tls_file",
    /// The server and the worker agree on no TLS.
    TlsRefused = "tls_refused",
    /// The server has no connection left.
    TooManyConnections = "too_many_connections",
    /// A transaction that has to end before a log can be followed is still open.
    TransactionOpen = "transaction_open",
    /// A pooler gives each transaction another session of the server.
    TransactionPooling = "transaction_pooling",
    /// `triggers: skip` is declared, and the role may not skip them.
    TriggersNotSkipped = "triggers_not_skipped",
    /// There is no such column.
    UnknownColumn = "unknown_column",
    /// There is no such database.
    UnknownDatabase = "unknown_database",
    /// The ledger has a format of another version.
    UnknownLedgerFormat = "unknown_ledger_format",
    /// There is no such table.
    UnknownTable = "unknown_table",
    /// The database cannot be reached.
    Unreachable = "unreachable",
    /// A task's order cannot be read: run one version of coordinator and worker.
    UnreadableOrder = "unreadable_order",
    /// A secret's file cannot be read.
    UnreadableSecret = "unreadable_secret",
    /// A secret's environment variable is not set.
    UnsetVariable = "unset_variable",
    /// The column's type has no order to cut by.
    UnsupportedPartitionColumn = "unsupported_partition_column",
    /// A value would not come back as it was.
    ValueChanged = "value_changed",
    /// A value does not fit the target's column.
    ValueDoesNotFit = "value_does_not_fit",
    /// A value or a statement is past SQLite's limits.
    ValueTooLarge = "value_too_large",
    /// A value of the partition column cannot be read.
    ValueUnreadable = "value_unreadable",
    /// A worker fell silent with the task in hand.
    WorkerLost = "worker_lost",
    /// Another connection holds the file's write lock.
    WriteLockHeld = "write_lock_held",
    /// Another step has written the table since the exchange that is to be undone.
    WrittenSince = "written_since",
    /// Rows came in another form than the target takes.
    WrongFormat = "wrong_format",
    /// The user or the password is wrong.
    WrongPassword = "wrong_password",
}

#[cfg(test)]
mod tests;
