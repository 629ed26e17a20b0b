//! The Redis serialization protocol, on its own: requests in, replies out, numbers as text.
