//! Walks PostgreSQL's binary COPY stream and counts its rows, without looking at a value.
//! Never keeps more than a header's bytes, and never trusts a stream that ends before its trailer.

/// The eleven bytes that every binary COPY stream begins with.
pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Signature, flags and the length of the header's extension.
const HEADER_BYTES: usize = 19;

/// Why a stream is not a binary COPY stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// It begins with something else.
    #[error("the stream does not begin as a binary COPY stream")]
    Signature,
    /// A count or a length is negative where it may not be.
    #[error("row {row} of the stream is malformed")]
    Malformed {
        /// The row, from 1.
        row: u64,
    },
    /// Bytes follow the trailer.
    #[error("bytes follow the stream's trailer")]
    AfterTrailer,
    /// The stream ended before its trailer: rows may be missing.
    #[error("the stream ended after {rows} rows, before its trailer")]
    NoTrailer {
        /// Whole rows seen.
        rows: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Header,
    FieldCount,
    FieldLength { fields_left: u16 },
    Nothing,
}

/// Counts the rows of a stream that comes in frames, cut anywhere.
#[derive(Debug)]
pub struct BinaryWalker {
    expect: Expect,
    skip_bytes: u64,
    held: [u8; HEADER_BYTES],
    held_bytes: usize,
    rows: u64,
}

impl Default for BinaryWalker {
    fn default() -> Self {
        Self {
            expect: Expect::Header,
            skip_bytes: 0,
            held: [0; HEADER_BYTES],
            held_bytes: 0,
            rows: 0,
        }
    }
}

impl BinaryWalker {
    /// Takes the next frame.
    ///
    /// # Errors
    /// [`BinaryError`] when the stream is not what it should be; the walker is of no use
    /// afterwards.
    pub fn feed(&mut self, mut frame: &[u8]) -> Result<(), BinaryError> {
        loop {
            let skipped = frame
                .len()
                .min(usize::try_from(self.skip_bytes).unwrap_or(usize::MAX));
            frame = &frame[skipped..];
            self.skip_bytes -= skipped as u64;
            if self.skip_bytes == 0 {
                self.end_row_without_fields_left();
            }
            if matches!(self.expect, Expect::FieldCount)
                && self.skip_bytes == 0
                && self.held_bytes == 0
            {
                frame = self.take_whole_rows(frame);
            }
            if frame.is_empty() {
                return Ok(());
            }
            let wanted = match self.expect {
                Expect::Header => HEADER_BYTES,
                Expect::FieldCount => 2,
                Expect::FieldLength { .. } => 4,
                Expect::Nothing => return Err(BinaryError::AfterTrailer),
            };
            let taken = (wanted - self.held_bytes).min(frame.len());
            self.held[self.held_bytes..self.held_bytes + taken].copy_from_slice(&frame[..taken]);
            self.held_bytes += taken;
            frame = &frame[taken..];
            if self.held_bytes == wanted {
                self.held_bytes = 0;
                self.step()?;
            }
        }
    }

    /// Whole rows seen so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The number of rows, once the stream has ended.
    ///
    /// # Errors
    /// [`BinaryError::NoTrailer`] when it ended too early.
    pub const fn finish(&self) -> Result<u64, BinaryError> {
        match self.expect {
            Expect::Nothing => Ok(self.rows),
            Expect::Header | Expect::FieldCount | Expect::FieldLength { .. } => {
                Err(BinaryError::NoTrailer { rows: self.rows })
            }
        }
    }

    /// Nearly every row lies whole in its frame, and is counted without holding or remembering any
    /// of it.
    fn take_whole_rows<'f>(&mut self, mut frame: &'f [u8]) -> &'f [u8] {
        while let Some(after) = after_whole_row(frame) {
            self.rows += 1;
            frame = after;
        }
        frame
    }

    fn end_row_without_fields_left(&mut self) {
        if let Expect::FieldLength { fields_left: 0 } = self.expect {
            self.rows += 1;
            self.expect = Expect::FieldCount;
        }
    }

    fn step(&mut self) -> Result<(), BinaryError> {
        let malformed = BinaryError::Malformed { row: self.rows + 1 };
        let [a, b, c, d, ..] = self.held;
        match self.expect {
            Expect::Header => {
                if self.held[..SIGNATURE.len()] != SIGNATURE[..] {
                    return Err(BinaryError::Signature);
                }
                let extension = [self.held[15], self.held[16], self.held[17], self.held[18]];
                self.skip_bytes = u64::from(u32::from_be_bytes(extension));
                self.expect = Expect::FieldCount;
            }
            Expect::FieldCount => match i16::from_be_bytes([a, b]) {
                -1 => self.expect = Expect::Nothing,
                count => {
                    let fields_left = u16::try_from(count).map_err(|_| malformed)?;
                    self.expect = Expect::FieldLength { fields_left };
                    self.end_row_without_fields_left();
                }
            },
            Expect::FieldLength { fields_left } => {
                self.skip_bytes = match i32::from_be_bytes([a, b, c, d]) {
                    -1 => 0,
                    length => u64::try_from(length).map_err(|_| malformed)?,
                };
                self.expect = Expect::FieldLength {
                    fields_left: fields_left.saturating_sub(1),
                };
            }
            Expect::Nothing => return Err(BinaryError::AfterTrailer),
        }
        Ok(())
    }
}

/// What follows the row that `frame` begins with. `None` when the row is cut off, is malformed or
/// is the trailer: the walker that goes step by step says which.
fn after_whole_row(frame: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = frame.split_first_chunk::<2>()?;
    for _ in 0..u16::try_from(i16::from_be_bytes(*count)).ok()? {
        let (length, values) = rest.split_first_chunk::<4>()?;
        rest = match i32::from_be_bytes(*length) {
            -1 => values,
            length => values.get(usize::try_from(length).ok()?..)?,
        };
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn stream(rows: &[Vec<Option<Vec<u8>>>], extension: usize) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&0_u32.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(extension).expect("small").to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, extension));
        for row in rows {
            bytes.extend_from_slice(&i16::try_from(row.len()).expect("small").to_be_bytes());
            for field in row {
                match field {
                    None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(value) => {
                        bytes.extend_from_slice(
                            &i32::try_from(value.len()).expect("small").to_be_bytes(),
                        );
                        bytes.extend_from_slice(value);
                    }
                }
            }
        }
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<Option<Vec<u8>>>>> {
        vec(vec(option::of(vec(any::<u8>(), 0..20)), 0..5), 0..20)
    }

    proptest! {
        #[test]
        fn rows_are_counted_however_the_stream_is_cut(rows in rows(), extension in 0_usize..9, cuts in vec(1_usize..90, 1..40)) {
            let bytes = stream(&rows, extension);
            let (mut walker, mut rest, mut cuts) = (BinaryWalker::default(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (frame, after) = rest.split_at((*cuts.next().expect("endless")).min(rest.len()));
                walker.feed(frame).expect("a good stream");
                rest = after;
            }
            prop_assert_eq!(walker.finish(), Ok(rows.len() as u64));
        }

        #[test]
        fn a_stream_without_its_end_is_never_taken_for_whole(rows in rows(), lost in 1_usize..200) {
            let bytes = stream(&rows, 0);
            let mut walker = BinaryWalker::default();
            walker.feed(&bytes[..bytes.len().saturating_sub(lost)]).expect("good so far");
            prop_assert!(walker.finish().is_err());
        }
    }

    #[test]
    fn a_malformed_row_is_named_wherever_it_is_cut() {
        let good = vec![Some(vec![1, 2, 3]), None];
        let bytes = stream(&[good.clone(), good], 0);
        // The second row's first field: its length is made negative, but not NULL's.
        let at = HEADER_BYTES + 2 * 2 + 4 + 3 + 4;
        let mut malformed = bytes;
        malformed[at..at + 4].copy_from_slice(&(-2_i32).to_be_bytes());
        for cut in 1..malformed.len() {
            let mut walker = BinaryWalker::default();
            let fed = malformed
                .chunks(cut)
                .try_for_each(|frame| walker.feed(frame));
            assert_eq!(
                fed,
                Err(BinaryError::Malformed { row: 2 }),
                "frames of {cut} bytes"
            );
        }
    }

    #[test]
    fn what_is_no_copy_stream_is_refused() {
        assert_eq!(
            BinaryWalker::default().feed(b"1\tone\n2\ttwo\n3\tthree\n"),
            Err(BinaryError::Signature)
        );
        let mut trailing = stream(&[], 0);
        trailing.push(0);
        assert_eq!(
            BinaryWalker::default().feed(&trailing),
            Err(BinaryError::AfterTrailer)
        );
    }
}
