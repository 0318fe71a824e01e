//! PostgreSQL's text COPY format: one line a row, tabs between fields, `\N` for NULL.
//! Never decides what a field means: it turns lines into texts and back.

/// Why a line is not a row of a text COPY stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A line ended behind a backslash.
    #[error("a line of the stream ends behind a backslash")]
    Escape,
    /// The stream ended inside a line.
    #[error("the stream ended inside its row {row}")]
    NoNewline {
        /// The row, from 1.
        row: u64,
    },
}

/// Appends a field's value, escaped.
pub fn encode_field(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.push(other),
        }
    }
}

/// Appends NULL.
pub fn encode_null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\N");
}

/// The fields of a line, which comes without its newline; `None` is NULL.
///
/// # Errors
/// [`TextError::Escape`] when the line ends behind a backslash.
pub fn decode_row(line: &[u8]) -> Result<Vec<Option<Vec<u8>>>, TextError> {
    // A tab inside a value is always escaped, so the bare ones part the fields.
    line.split(|byte| *byte == b'\t')
        .map(decode_field)
        .collect()
}

fn decode_field(field: &[u8]) -> Result<Option<Vec<u8>>, TextError> {
    if field == b"\\N" {
        return Ok(None);
    }
    let mut value = Vec::with_capacity(field.len());
    let mut rest = field.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        match rest.next().ok_or(TextError::Escape)? {
            b'b' => value.push(8),
            b'f' => value.push(12),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'v' => value.push(11),
            // The server writes no octal and no hexadecimal escapes, so anything else stands for
            // itself.
            other => value.push(other),
        }
    }
    Ok(Some(value))
}

/// Cuts a stream that comes in frames into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    partial: Vec<u8>,
    lines: u64,
}

impl LineCutter {
    /// Takes the next frame and hands every line that it ends to `each`, without its newline.
    ///
    /// # Errors
    /// Whatever `each` answers.
    pub fn feed<E>(
        &mut self,
        frame: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = frame;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() {
                each(line)?;
            } else {
                self.partial.extend_from_slice(line);
                each(&self.partial)?;
                self.partial.clear();
            }
            self.lines += 1;
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Whole lines seen so far.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes of a line that has not ended yet.
    #[must_use]
    pub const fn pending_bytes(&self) -> usize {
        self.partial.len()
    }

    /// The number of lines, once the stream has ended.
    ///
    /// # Errors
    /// [`TextError::NoNewline`] when it ended inside a line.
    pub const fn finish(&self) -> Result<u64, TextError> {
        if self.partial.is_empty() {
            Ok(self.lines)
        } else {
            Err(TextError::NoNewline {
                row: self.lines + 1,
            })
        }
    }
}

/// Counts the rows of a stream that comes in frames.
#[derive(Debug)]
pub struct TextWalker {
    rows: u64,
    at_line_start: bool,
}

impl Default for TextWalker {
    fn default() -> Self {
        Self {
            rows: 0,
            at_line_start: true,
        }
    }
}

impl TextWalker {
    /// Takes the next frame.
    pub fn feed(&mut self, frame: &[u8]) {
        if let Some(last) = frame.last() {
            self.rows += frame.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.at_line_start = *last == b'\n';
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
    /// [`TextError::NoNewline`] when it ended inside a row.
    pub const fn finish(&self) -> Result<u64, TextError> {
        if self.at_line_start {
            Ok(self.rows)
        } else {
            Err(TextError::NoNewline { row: self.rows + 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn encode(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut out = Vec::new();
        for row in rows {
            for (at, field) in row.iter().enumerate() {
                if at > 0 {
                    out.push(b'\t');
                }
                match field {
                    None => encode_null(&mut out),
                    Some(value) => encode_field(value, &mut out),
                }
            }
            out.push(b'\n');
        }
        out
    }

    proptest! {
        #[test]
        fn rows_survive_their_text_however_it_is_cut(
            rows in vec(vec(option::of(vec(any::<u8>(), 0..12)), 1..5), 0..12),
            cuts in vec(1_usize..9, 1..30),
        ) {
            let bytes = encode(&rows);
            let (mut cutter, mut walker, mut read) = (LineCutter::default(), TextWalker::default(), Vec::new());
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (frame, after) = rest.split_at((*cuts.next().expect("endless")).min(rest.len()));
                cutter.feed(frame, |line| decode_row(line).map(|row| read.push(row))).expect("good \
                    lines");
                walker.feed(frame);
                rest = after;
            }
            prop_assert_eq!(cutter.finish(), Ok(rows.len() as u64));
            prop_assert_eq!(walker.finish(), Ok(rows.len() as u64));
            prop_assert_eq!(read, rows);
        }
    }

    #[test]
    fn null_is_not_the_text_of_null() {
        assert_eq!(
            decode_row(b"\\N\t\\\\N\t"),
            Ok(vec![None, Some(b"\\N".to_vec()), Some(Vec::new())])
        );
        assert_eq!(decode_row(b"a\\"), Err(TextError::Escape));
    }

    #[test]
    fn a_stream_that_ends_inside_a_row_is_not_whole() {
        let (mut cutter, mut walker) = (LineCutter::default(), TextWalker::default());
        cutter
            .feed(b"1\n2", |_| Ok::<(), TextError>(()))
            .expect("no error of its own");
        walker.feed(b"1\n2");
        assert_eq!(cutter.finish(), Err(TextError::NoNewline { row: 2 }));
        assert_eq!(walker.finish(), Err(TextError::NoNewline { row: 2 }));
    }
}
