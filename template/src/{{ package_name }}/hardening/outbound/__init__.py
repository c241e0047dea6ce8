"""HTTP to other systems (`ctx.http`): outside addresses only, within the deadline of the call."""
