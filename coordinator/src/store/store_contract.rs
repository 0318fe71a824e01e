//! The contract on the backends that need no server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use super::RecordStore;
use super::contract::StoreFixture;
use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use crate::record_store_contract;

struct MemoryFixture(MemoryStore);

#[async_trait]
impl StoreFixture for MemoryFixture {
    const TTL: Duration = Duration::from_millis(300);

    async fn fresh() -> Self {
        Self(MemoryStore::new())
    }

    async fn client(&self) -> Arc<dyn RecordStore> {
        Arc::new(self.0.clone())
    }
}

struct SqliteFixture {
    store: Arc<SqliteStore>,
    _folder: TempDir,
}

#[async_trait]
impl StoreFixture for SqliteFixture {
    const TTL: Duration = Duration::from_millis(500);

    async fn fresh() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"))
            .await
            .unwrap();
        Self {
            store: Arc::new(store),
            _folder: folder,
        }
    }

    /// One process has one client: the file is locked.
    async fn client(&self) -> Arc<dyn RecordStore> {
        Arc::clone(&self.store) as Arc<dyn RecordStore>
    }
}

record_store_contract!(memory, MemoryFixture);
record_store_contract!(sqlite, SqliteFixture);
