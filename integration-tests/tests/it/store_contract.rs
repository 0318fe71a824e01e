//! The contract of the record store, on a real etcd.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_coordinator::record_store_contract;
use highwater_coordinator::store::RecordStore;
use highwater_coordinator::store::contract::StoreFixture;
use highwater_coordinator::store::etcd::{EtcdOptions, EtcdStore};

use crate::etcd_server::EtcdServer;

struct EtcdFixture(EtcdServer);

#[async_trait]
impl StoreFixture for EtcdFixture {
    const TTL: Duration = Duration::from_secs(2);

    async fn fresh() -> Self {
        Self(EtcdServer::start())
    }

    async fn client(&self) -> Arc<dyn RecordStore> {
        let mut options = EtcdOptions::new(vec![self.0.endpoint()], "contract");
        // The cases expect an answer to each commit, on a busy machine too.
        options.request_timeout = Duration::from_secs(20);
        Arc::new(EtcdStore::connect(options).await.unwrap())
    }
}

record_store_contract!(etcd, EtcdFixture);
