//! Configuration in the grammar of redis.conf.
