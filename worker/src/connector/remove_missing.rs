//! The data transaction removes the rows of a range that no key of the source names.

use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;

use super::ConnectorError;
use super::reconcile::Compared;
use super::requests::WriteRequest;
use super::rows::RowStream;
use super::traits::TargetTx;
use super::transaction::DataTx;

impl DataTx {
    /// Removes the rows of a range that no key of the source names; the request's columns are the
    /// key's.
    ///
    /// # Errors
    /// Those of the connector and of `keys`; permanent `merge_unsupported` and `count_mismatch`.
    pub async fn remove_missing(
        mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<(Self, Compared), ConnectorError> {
        match remove_missing(self.tx.as_mut(), request, keys).await {
            Ok(compared) => Ok((self, compared)),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }
}

async fn remove_missing(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    keys: &mut dyn RowStream,
) -> Result<Compared, ConnectorError> {
    tx.hold(request).await?;
    let table = &request.table;
    let Some(reconciling) = tx.reconciling() else {
        let message = format!("{} cannot remove rows of {table} by their keys", tx.place());
        return Err(ConnectorError::new(
            ErrorClass::Permanent,
            ErrorCode::MergeUnsupported,
            message,
        ));
    };
    let compared = reconciling.remove_missing(request, keys).await?;
    let read = keys.rows();
    if compared.came != read {
        let message = format!(
            "{read} keys were read and {} came to {}; nothing was removed",
            compared.came,
            tx.place()
        );
        return Err(ConnectorError::new(
            ErrorClass::Permanent,
            ErrorCode::CountMismatch,
            message,
        ));
    }
    Ok(compared)
}
