//! One value per directive, in the table's order, looked up by the directive's name.

use std::path::PathBuf;

use ipnet::IpNet;

use super::directive;
use super::value::{Events, HostPort, OutputLimits, Value};

/// See the module's head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values(pub(super) Vec<Value>);

impl Values {
    fn at(&self, name: &str) -> &Value {
        &self.0[directive::index(name).expect("every field names a directive of the table")]
    }

    pub(super) fn at_mut(&mut self, name: &str) -> &mut Value {
        &mut self.0[directive::index(name).expect("every field names a directive of the table")]
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.at(name) {
            Value::Flag(x) => *x,
            other => unreachable!("{name} is no flag: {other:?}"),
        }
    }

    pub(super) fn number(&self, name: &str) -> i128 {
        match self.at(name) {
            Value::Number(x) => *x,
            other => unreachable!("{name} is no number: {other:?}"),
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.at(name) {
            Value::Text(x) => x,
            other => unreachable!("{name} is no text: {other:?}"),
        }
    }

    pub(super) fn words(&self, name: &str) -> &[String] {
        match self.at(name) {
            Value::Words(x) => x,
            other => unreachable!("{name} is no words: {other:?}"),
        }
    }

    pub(super) fn lines(&self, name: &str) -> &[Vec<String>] {
        match self.at(name) {
            Value::Lines(x) => x,
            other => unreachable!("{name} is no lines: {other:?}"),
        }
    }

    pub(super) fn limits(&self, name: &str) -> OutputLimits {
        match self.at(name) {
            Value::Limits(x) => *x,
            other => unreachable!("{name} is no limits: {other:?}"),
        }
    }

    pub(super) fn events(&self, name: &str) -> Events {
        match self.at(name) {
            Value::Events(x) => *x,
            other => unreachable!("{name} is no events: {other:?}"),
        }
    }

    pub(super) fn partners(&self, name: &str) -> Vec<HostPort> {
        match self.at(name) {
            Value::Partners(x) => x.clone(),
            other => unreachable!("{name} is no partners: {other:?}"),
        }
    }

    pub(super) fn blocks(&self, name: &str) -> Vec<IpNet> {
        match self.at(name) {
            Value::Blocks(x) => x.clone(),
            other => unreachable!("{name} is no blocks: {other:?}"),
        }
    }

    /// None for an empty text.
    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.some(name).map(PathBuf::from)
    }

    /// None for 0.
    pub(super) fn port(&self, name: &str) -> Option<u16> {
        Some(self.number(name) as u16).filter(|port| *port != 0)
    }
}
