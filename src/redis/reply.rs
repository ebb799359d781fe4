//! Reads the reply of a script value by value.

use super::link::{LinkError, Value};

/// The values of a reply that have not been read.
#[derive(Debug)]
pub(crate) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// Begins to read an array.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is no array.
    pub(crate) fn new(value: Value) -> Result<Self, LinkError> {
        match value {
            Value::Array(values) => Ok(Reply(values.into_iter())),
            _ => Err(LinkError::Shape),
        }
    }

    /// Returns how many values have not been read.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a number, or a text that is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the next value is neither.
    pub(crate) fn number(&mut self) -> Result<u64, LinkError> {
        self.signed()?.try_into().map_err(|_| LinkError::Shape)
    }

    /// Reads a number that may be negative, or a text that is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the next value is neither.
    pub(crate) fn signed(&mut self) -> Result<i64, LinkError> {
        let number = match self.0.next() {
            Some(Value::Int(number)) => Some(number),
            Some(Value::BulkString(text)) => str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.ok_or(LinkError::Shape)
    }

    /// Reads bytes, or `None` if there are none.
    ///
    /// # Errors
    ///
    /// Returns an error if the next value is something else.
    pub(crate) fn bytes(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
            // `false` in a script.
            Some(Value::Nil) => Ok(None),
            _ => Err(LinkError::Shape),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// Returns an error if the next value is no text.
    pub(crate) fn text(&mut self) -> Result<String, LinkError> {
        let bytes = self.bytes()?.ok_or(LinkError::Shape)?;
        String::from_utf8(bytes).map_err(|_| LinkError::Shape)
    }

    /// Reads an array.
    ///
    /// # Errors
    ///
    /// Returns an error if the next value is none.
    pub(crate) fn array(&mut self) -> Result<Reply, LinkError> {
        Reply::new(self.0.next().ok_or(LinkError::Shape)?)
    }
}
