-- Statements that are refused, and how.
--
-- A case is a block of lines, with an empty line after it: the statement on one line; for each
-- problem, in order, a line with the caret under the fault and a line that begins with ! and holds
-- the message, with the hint in parentheses. Lines that begin with -- in front of a block are
-- comments. A problem that stands under ~ instead of ! is a warning.

-- WHAT ASKS AWS, OR CANNOT BE MEANT

SELECT aws_lambda('arn', a) AS x FROM '#'
       ^
! function aws_lambda() is not supported: it asks AWS about every message (run the function on the stream that the rule forwards to)

SELECT decode(a, 'proto', 'b', 'k') AS x, encode(a, 'hex') AS y FROM '#'
                 ^
! decode() of 'proto' is not supported: its descriptor is kept in AWS (let devices send JSON)
                                                    ^
~ encode() has the scheme 'base64' alone: the result is Undefined

SELECT get_thing_shadow('t', 'r').s AS x FROM '#' WHERE get_secret('a') = b
       ^
! function get_thing_shadow() is not supported: it asks AWS about every message (let devices send the reported state with their messages)
                                                        ^
! function get_secret() is not supported: it asks AWS about every message (a statement needs none: sinks take credentials from the environment)

SELECT a + 1 FROM '#'
         ^
! this item has no name in the output (a + 1 AS name)

SELECT 'fixed', topic(1), a.b, r.a.c, cast(a AS Int) FROM '#'
       ^
! this item has no name in the output ('fixed' AS name)

SELECT CAST(a AS Integr) AS n FROM '#'
       ^
! CAST to integr does not exist (did you mean integer?)

SELECT VALUE a, b FROM '#'
                ^
! SELECT VALUE puts out one value (leave VALUE out, or the other items)

SELECT VALUE a AS b FROM '#'
             ^
! SELECT VALUE puts out the value itself: a name after AS is lost

SET @a = 1, @a = 2 SELECT @a AS a FROM '#'
            ^
! @a is set twice (each name is set once)

SET @limit = @base, @base = 1 SELECT * FROM '#' WHERE a > @limt
             ^
! @base has no value here (SET gives it its value, before it is used)
                                                          ^
! @limt has no value here (did you mean limit?)

SELECT (SELECT v) AS v FROM '#'
        ^
! a nested SELECT needs FROM and an array or object ((SELECT ... FROM readings))

SELECT (SELECT v FROM 'e') AS v FROM '#'
                      ^
! a nested SELECT is of a value of the message, not of a topic (FROM readings, without quotes)

SELECT (SELECT v + 1 FROM e) AS v FROM '#'
                 ^
! this item has no name in the output (v + 1 AS name)

SELECT * FROM '#' WHERE EXISTS (SELECT * FROM e WHERE frobnicate(n))
                                                      ^
! function frobnicate() does not exist in AWS IoT SQL

-- WHAT DOES NOT EXIST IN AWS IOT SQL

SELECT * FROM '#' WHERE name LIKE 'a%'
                             ^
! LIKE does not exist in AWS IoT SQL (AWS has startswith, endswith, indexof and regexp_matches)

SELECT * FROM '#' WHERE a BETWEEN 1 AND 2
                          ^
! BETWEEN does not exist in AWS IoT SQL (write x >= low AND x <= high)

SELECT * FROM '#' WHERE (a is null)
                           ^
! IS does not exist in AWS IoT SQL (write x = NULL, or isUndefined(x) for a missing key)

SELECT * FROM '#' GROUP BY device
                  ^
! GROUP does not exist in AWS IoT SQL (a rule sees one message at a time; its window and statistic sum messages up)

SELECT * FROM '#' WHERE a > 1 ORDER BY a
                              ^
! ORDER does not exist in AWS IoT SQL (a rule sees one message at a time)

SELECT * FROM '#' LIMIT 5
                  ^
! LIMIT does not exist in AWS IoT SQL (a rule sees one message at a time)

SELECT DISTINCT device FROM '#'
       ^
! DISTINCT does not exist in AWS IoT SQL (a rule sees one message at a time)

SELECT avg(t) AS mean FROM '#'
       ^
! function avg() does not exist in AWS IoT SQL (a statement sees one message; the rule's statistic and window sum messages up)

SELECT tpoic(2) AS room FROM '#'
       ^
! function tpoic() does not exist in AWS IoT SQL (did you mean topic?)

SELECT frobnicate(2) AS room FROM '#'
       ^
! function frobnicate() does not exist in AWS IoT SQL

SELECT * FROM '#' -- all of them
                  ^
! -- does not exist in AWS IoT SQL (there are no comments; "a - -1" needs the blank)

SELECT /* all */ * FROM '#'
       ^
! /* does not exist in AWS IoT SQL (there are no comments)

SELECT * FROM '#' WHERE a == 1
                          ^
! == does not exist in AWS IoT SQL (equality is written =)

SELECT * FROM '#' WHERE a && b
                          ^
! && does not exist in AWS IoT SQL (write AND)

SELECT * FROM '#' WHERE !a
                        ^
! unexpected ! (U+0021) (write NOT, or <> for "not equal")

SELECT * FROM '#';
                 ^
! ; does not exist in AWS IoT SQL (a rule is one statement, without a semicolon)

SELECT `a` FROM '#'
       ^
! ` does not exist in AWS IoT SQL (names stand without quotes)

SELECT * FROM '#' WHERE items[0] = 1
                             ^
! expected an operator or the end, found [ (the items of an array are read with get(array, index))

SELECT CASE WHEN a > 1 THEN 2 END AS x FROM '#'
            ^
! CASE without a value does not exist in AWS IoT SQL (write CASE value WHEN match THEN result END)

-- SYNTAX

SELCT * FROM '#'
^
! expected SELECT, found SELCT (did you mean SELECT?)

SELECT FROM '#'
       ^
! expected *, a path or an expression after SELECT, found FROM

SELECT a, FROM '#'
        ^
! expected another item after the comma (drop the comma)

SELECT a b FROM '#'
         ^
! expected a comma, AS, FROM, WHERE or the end, found b

SELECT * FORM '#'
         ^
! expected a comma, AS, FROM, WHERE or the end, found FORM (did you mean FROM?)

SELECT * FROM '#' WHEN a > 1
                  ^
! expected WHERE or the end, found WHEN (did you mean WHERE?)

SELECT * FROM
             ^
! expected a topic filter in quotes after FROM, found the end

SELECT * FROM home/+/thermostat
              ^
! expected a topic filter in quotes after FROM (FROM 'a/b')

SELECT * FROM #
              ^
! unexpected # (U+0023) (a topic filter stands in quotes)

SELECT * FROM '#' WHERE
                       ^
! expected a value, found the end

SELECT * FROM '#' WHERE a >
                           ^
! expected a value, found the end

SELECT * FROM '#' WHERE a > AND b
                            ^
! expected a value, found AND

SELECT * FROM '#' WHERE (a > 1
                              ^
! expected ), found the end

SELECT * FROM '#' WHERE a > 1)
                             ^
! expected an operator or the end, found )

SELECT * FROM '#' WHERE a < b < c
                              ^
! comparisons cannot be chained (write a < b AND b < c)

SELECT * FROM '#' WHERE a NOT IN b
                          ^
! expected an operator or the end, found NOT (write NOT before the whole comparison)

SELECT * FROM '#' WHERE a = NOT b
                            ^
! expected a value, found NOT (put NOT and its value in parentheses)

SELECT * FROM '#' WHERE a = +1
                            ^
! expected a value, found +

SELECT * FROM '#' WHERE a = 'open
                            ^
! this string is not closed: expected ' before the end

SELECT * FROM '#' WHERE a = 1abc
                             ^
! unexpected a right after the number 1 (a name begins with a letter or _, a point needs digits)

SELECT * FROM '#' WHERE a = 5.
                             ^
! unexpected . right after the number 5 (a name begins with a letter or _, a point needs digits)

SELECT * FROM '#' WHERE a = 1e1000
                            ^
! the number 1e1000 is out of range: expected 34 digits and exponents from -999 to 999

SELECT * FROM '#' WHERE a = 0.12345678901234567890123456789012345
                            ^
! the number 0.12345678901234567890123456789012345 is out of range: expected 34 digits and exponents from -999 to 999

SELECT a.1 FROM '#'
         ^
! expected a name after ".", found 1

SELECT a AS 'x' FROM '#'
            ^
! expected a name after AS, found 'x'

SELECT {a: 1} AS x FROM '#'
        ^
! expected a key in quotes, found a

SELECT topic(1 AS x FROM '#'
               ^
! expected ) or a comma, found AS

SELECT * FROM '#' WHERE größe > 1
                          ^
! unexpected LATIN SMALL LETTER O WITH DIAERESIS (U+00F6) (a name outside quotes has only the letters A to Z, digits and _)

SELECT * FROM '#' WHERE a = ‘x’
                            ^
! unexpected LEFT SINGLE QUOTATION MARK (U+2018) (write ' or ")

SELECT * FROM '#' WHERE @a-b-c = @
                                 ^
! unexpected @ (U+0040) (a variable is @ and 1 to 64 letters, digits or _)

-- TOPIC FILTERS

SELECT * FROM ''
               ^
! a topic filter may not be empty

SELECT * FROM 'a/#/b'
                 ^
! "#" may stand only as the whole last level

SELECT * FROM 'a/b#'
                  ^
! "#" must be a whole level between slashes

SELECT * FROM 'it''s/a+/b'
                      ^
! "+" must be a whole level between slashes

SELECT * FROM '1/2/3/4/5/6/7/8/9' WHERE topic(1, 2) = 'a'
              ^
~ AWS IoT takes at most 7 slashes, this filter has 8
                                        ^
~ topic() takes at most one argument: the result is Undefined

-- An error and a warning: errors come first.
SELECT lower(a) AS b FROM '1/2/3/4/5/6/7/8/9' WHERE topic(1, 2) = lower(b)
                          ^
~ AWS IoT takes at most 7 slashes, this filter has 8
                                                    ^
~ topic() takes at most one argument: the result is Undefined
