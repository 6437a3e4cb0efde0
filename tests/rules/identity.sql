-- Statements that print back as they stand, one a line; lines that begin with -- are comments.
SET @r = a.r SELECT (SELECT VALUE n FROM @r.s AS x WHERE x.n > 1) AS n FROM '#'

SELECT * FROM '#'
SELECT *
SELECT a FROM 'a/b'
SELECT a.b.c AS x, * AS all, topic() AS t, topic(2) AS room FROM 'home/+/#'
SELECT a AS out.temp FROM '#' WHERE a > -40 AND a < 200
SELECT * FROM 'it''s' WHERE a = 'say "hi"' OR a = ''
SELECT * FROM '#' WHERE a = 0.5 AND b = 100000 AND c = 1E-7 AND d = 1234567890123456789012345678901234
SELECT * FROM '#' WHERE a = TRUE OR b = FALSE OR c = NULL
SELECT * FROM '#' WHERE a < 1 OR a <= 1 OR a > 1 OR a >= 1 OR a = 1 OR a <> 1
SELECT * FROM '#' WHERE NOT a AND NOT NOT b OR NOT (c OR d)
SELECT * FROM '#' WHERE (a OR b) AND (c OR d) OR e AND f
SELECT * FROM '#' WHERE a AND (b AND c)
SELECT * FROM '#' WHERE a OR (b OR c) OR d
SELECT * FROM '#' WHERE a + b * c - d / e % f = 0
SELECT * FROM '#' WHERE (a + b) * (c - d) = a - (b - c) - (d + e)
SELECT * FROM '#' WHERE a / (b * c) = a / b * c
SELECT * FROM '#' WHERE -a * -b = -(a * b) AND - -a = a
SELECT * FROM '#' WHERE a - -1 > 0
SELECT * FROM '#' WHERE (a = b) = (c > d)
SELECT * FROM '#' WHERE NOT a = b
SELECT * FROM '#' WHERE (NOT a) = b
SELECT value, VALUE.x, set, end, case_, exists FROM '#' WHERE value = 1 AND cast = 2
SELECT a.select, b.from.where AS order FROM '#'

-- What is parsed and not evaluated yet.

SELECT VALUE a.b FROM '#'
SELECT VALUE * FROM '#'
SELECT VALUE 'x' FROM '#'
SELECT VALUE {'a': 1} FROM '#'
SELECT a + 1 AS b, 1 AS one, NOT c AS d FROM '#'
SELECT lower(a), upper(b, 'c', 1 + 2) AS x FROM '#' WHERE startswith(name, 'a')
SELECT encode(*, 'base64') AS data FROM '#'
SELECT CAST(a AS decimal) AS x FROM '#' WHERE CAST(a + 1 AS string) = '2'
SELECT CASE a WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END AS n FROM '#'
SELECT CASE a WHEN 1 THEN CASE b WHEN 1 THEN a.end END END AS n FROM '#'
SELECT [1, 'a', [], b] AS list, {'k': 1, 'it''s': {}} AS map FROM '#'
SELECT * FROM '#' WHERE a IN [1, 2] OR NOT 'x' IN list
SELECT * FROM '#' WHERE EXISTS (SELECT * FROM items WHERE n = 1)
SELECT (SELECT VALUE v FROM e AS x WHERE x = 3) AS y FROM '#'
SELECT get((SELECT v FROM e.f WHERE n = 't'), 0).v AS x FROM '#'
SELECT (SELECT a FROM b) IN [(SELECT c FROM d)] AS x FROM '#'
SELECT (a + b).c AS x, @v.p AS y FROM '#'
SET @a = 1, @b = @a + 1 SELECT @a AS x FROM '#' WHERE @b > 1
