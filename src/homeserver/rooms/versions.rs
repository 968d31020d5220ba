//! The room versions that this node takes part in.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The version of rooms made without asking for one.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// Every version that rooms can be made with and joined in.
pub const SUPPORTED: [RoomVersionId; 10] = [
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The rules of a version, when this node supports it.
#[must_use]
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    SUPPORTED.contains(version).then(|| version.rules()).flatten()
}
