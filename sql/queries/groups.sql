-- Groups of people whom gates ask for.

-- name: list
-- By name, with how many are in each ($1 limit or null, $2 offset).
SELECT
    g.id,
    g.name,
    g.description,
    g.created_by,
    g.created_at,
    g.updated_at,
    (SELECT count(*) FROM group_members m WHERE m.group_id = g.id)::integer AS member_count
FROM groups g
ORDER BY g.name
LIMIT $1 OFFSET $2;

-- name: create
-- A new one ($1 id, $2 name, $3 description, $4 the person who made it or null, $5 now); no row: name taken.
INSERT INTO groups (id, name, description, created_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, description, created_by, created_at, updated_at, 0 AS member_count;

-- name: change
-- A new name ($2) and description ($3), at $4. A name that is taken violates its constraint.
UPDATE groups SET name = $2, description = $3, updated_at = $4 WHERE id = $1
RETURNING id;

-- name: delete
-- Removes one; the people stay.
DELETE FROM groups WHERE id = $1;

-- name: members
-- Who is in a group ($1), by name, by e-mail where there is none ($2 limit or null, $3 offset).
SELECT
    u.id AS user_id,
    u.email,
    u.name,
    u.role,
    m.added_at
FROM group_members m
INNER JOIN users u ON u.id = m.user_id
WHERE m.group_id = $1
ORDER BY coalesce(nullif(u.name, ''), u.email), u.id
LIMIT $2 OFFSET $3;

-- name: has
-- Whether group ($1) and person ($2) are there.
SELECT exists(SELECT FROM groups WHERE id = $1) AS has_group, exists(SELECT FROM users WHERE id = $2) AS has_user;

-- name: add_member
-- Puts a person ($2) into a group ($1), once ($3 the person who says so or null, $4 now).
INSERT INTO group_members (group_id, user_id, added_by, added_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (group_id, user_id) DO NOTHING;

-- name: remove_member
-- Takes a person ($2) out of a group ($1).
DELETE FROM group_members WHERE group_id = $1 AND user_id = $2;
