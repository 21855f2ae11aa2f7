// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The connections by their numbers, found without a search.

use super::{Connection, ConnectionId};

/// A number is a place, and how many connections the place has had. Those of the listening sockets
/// are smaller than any.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    uses: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// Puts a connection into a place, if there is memory for one.
    pub(super) fn insert(&mut self, connection: Connection) -> Option<ConnectionId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.try_reserve(1).ok()?;
                // So that giving it back needs no memory.
                self.free.try_reserve(self.places.len() + 1).ok()?;
                let index = u32::try_from(self.places.len()).ok()?;
                self.places.push(Place {
                    uses: 0,
                    connection: None,
                });
                index
            }
        };
        let place = self.places.get_mut(index as usize)?;
        place.uses = place.uses.wrapping_add(1).max(1);
        place.connection = Some(connection);
        Some(u64::from(place.uses) << 32 | u64::from(index))
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let (index, uses) = parts(id);
        let place = self.places.get(index)?;
        place.connection.as_ref().filter(|_| place.uses == uses)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let (index, uses) = parts(id);
        let place = self.places.get_mut(index)?;
        place.connection.as_mut().filter(|_| place.uses == uses)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let (index, uses) = parts(id);
        let place = self.places.get_mut(index)?;
        if place.uses != uses {
            return None;
        }
        let removed = place.connection.take()?;
        self.free.push(u32::try_from(index).ok()?);
        Some(removed)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Connection> {
        let places = self.places.into_iter();
        places.filter_map(|place| place.connection)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Connection)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(index, place)| {
            let id = u64::from(place.uses) << 32 | index as u64;
            Some((id, place.connection.as_mut()?))
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "either half is what is wanted"
)]
fn parts(id: ConnectionId) -> (usize, u32) {
    (id as u32 as usize, (id >> 32) as u32)
}
