-- What FROM and WHERE say of a message, and what the measure is.
--
-- A case is a block of lines, with an empty line after it:
--   the statement, on one or several lines;
--   `measure PATH`, where the measure matters;
--   `option NAME VALUE`, for a switch that is not at its default;
--   one line a message: | topic | payload | verdict | measure
-- Topic: as it is, or - for a message without one. Payload: JSON. Verdict: pass, false, undefined,
-- no_topic or other_topic. Measure: JSON, or - for Undefined; left out where there is no `measure`.
-- Lines that begin with -- are comments. Every message runs alone, in one batch with the others of
-- its case, and through the exact evaluator alone.

-- ORDER OF NUMBERS

SELECT * FROM '#' WHERE t > 5
measure t
| a | {"t": 6}                       | pass      | 6
| a | {"t": 5}                       | false     | 5
| a | {"t": 5.000000000000001}       | pass      | 5.000000000000001
| a | {"t": 4}                       | false     | 4
| a | {"t": "6"}                     | pass      | "6"
| a | {"t": "6.5e1"}                 | pass      | "6.5e1"
| a | {"t": "5"}                     | false     | "5"
| a | {"t": "-6"}                    | false     | "-6"
| a | {"t": "abc"}                   | undefined | "abc"
| a | {"t": true}                    | undefined | true
| a | {"t": null}                    | undefined | null
| a | {"t": [6]}                     | undefined | [6]
| a | {"t": {"t": 6}}                | undefined | {"t": 6}
| a | {}                             | undefined | -

-- Which texts convert: no +, no blanks, no .5, no 5., no hex, no E+5, no Infinity.
SELECT * FROM '#' WHERE t >= 0
| a | {"t": "0"}         | pass
| a | {"t": "007"}       | pass
| a | {"t": "-0"}        | pass
| a | {"t": "1E5"}       | pass
| a | {"t": "1e-5"}      | pass
| a | {"t": "1.50"}      | pass
| a | {"t": "+5"}        | undefined
| a | {"t": " 5"}        | undefined
| a | {"t": "5 "}        | undefined
| a | {"t": "5\n"}       | undefined
| a | {"t": ".5"}        | undefined
| a | {"t": "5."}        | undefined
| a | {"t": "0x10"}      | undefined
| a | {"t": "1E+5"}      | undefined
| a | {"t": "1e"}        | undefined
| a | {"t": "--5"}       | undefined
| a | {"t": "NaN"}       | undefined
| a | {"t": "Infinity"}  | undefined
| a | {"t": ""}          | undefined
| a | {"t": "٣"}         | undefined
| a | {"t": "1E99999"}   | undefined
| a | {"t": "1E-99999"}  | pass

-- The four signs, and a literal on the left.
SELECT * FROM '#' WHERE a < 1 OR b <= 1 OR c > 1 OR d >= 1
| a | {"a": 1, "b": 2, "c": 1, "d": 0}  | false
| a | {"a": 0, "b": 2, "c": 1, "d": 0}  | pass
| a | {"a": 1, "b": 1, "c": 1, "d": 0}  | pass
| a | {"a": 1, "b": 2, "c": 2, "d": 0}  | pass
| a | {"a": 1, "b": 2, "c": 1, "d": 1}  | pass

SELECT * FROM '#' WHERE 1 > a AND 1 >= b AND 1 < c AND 1 <= d
| a | {"a": 0, "b": 1, "c": 2, "d": 1}  | pass
| a | {"a": 1, "b": 1, "c": 2, "d": 1}  | false
| a | {"a": 0, "b": 2, "c": 2, "d": 1}  | false
| a | {"a": 0, "b": 1, "c": 1, "d": 1}  | false
| a | {"a": 0, "b": 1, "c": 2, "d": 0}  | false

-- A text literal that converts, and one that does not: there is no order of texts.
SELECT * FROM '#' WHERE t > '5'
| a | {"t": 6}      | pass
| a | {"t": "6"}    | pass
| a | {"t": "5"}    | false

SELECT * FROM '#' WHERE name > 'a'
| a | {"name": "b"} | undefined
| a | {"name": 3}   | undefined

-- A literal between two float64, on either side of the nearest one.
SELECT * FROM '#' WHERE t < 0.1000000000000000055511151231257827
| a | {"t": 0.1}                  | pass
| a | {"t": 0.10000000000000002}  | false

SELECT * FROM '#' WHERE t >= 0.09999999999999999999
| a | {"t": 0.1}                  | pass
| a | {"t": 0.09999999999999999}  | false

SELECT * FROM '#' WHERE t = 0.10000000000000000001
| a | {"t": 0.1}                  | false

-- Two paths.
SELECT * FROM '#' WHERE a < b
| a | {"a": 1, "b": 2}            | pass
| a | {"a": 2, "b": 2}            | false
| a | {"a": 0.1, "b": 0.2}        | pass
| a | {"a": "1", "b": 2}          | pass
| a | {"a": "10", "b": "9"}       | false
| a | {"a": null, "b": 2}         | undefined
| a | {"b": 2}                    | undefined

-- Integers that float64 cannot tell apart.
SELECT * FROM '#' WHERE n = 9007199254740993
| a | {"n": 9007199254740993}     | pass
| a | {"n": 9007199254740992}     | false
| a | {"n": 9007199254740994}     | false

SELECT * FROM '#' WHERE n > 9007199254740992
| a | {"n": 9007199254740993}     | pass
| a | {"n": 9007199254740992}     | false
| a | {"n": 1e300}                | pass

SELECT * FROM '#' WHERE a = b
| a | {"a": 9007199254740993, "b": 9007199254740992}  | false
| a | {"a": 9007199254740993, "b": 9007199254740993}  | pass
| a | {"a": 1e23, "b": 100000000000000000000000}      | pass
| a | {"a": 1e23, "b": 99999999999999991611392}       | false

-- EQUALITY: nothing converts

SELECT * FROM '#' WHERE x = 5
| a | {"x": 5}        | pass
| a | {"x": 5.0}      | pass
| a | {"x": 5.5}      | false
| a | {"x": "5"}      | false
| a | {"x": true}     | false
| a | {"x": null}     | false
| a | {"x": [5]}      | false
| a | {"x": {}}       | false
| a | {}              | undefined

SELECT * FROM '#' WHERE x <> 5
| a | {"x": 5}        | false
| a | {"x": 6}        | pass
| a | {"x": "5"}      | pass
| a | {"x": null}     | pass
| a | {}              | undefined

SELECT * FROM '#' WHERE x = 0
| a | {"x": 0}        | pass
| a | {"x": ""}       | false
| a | {"x": false}    | false
| a | {"x": null}     | false

SELECT * FROM '#' WHERE x != 'on'
| a | {"x": "on"}     | false
| a | {"x": "On"}     | pass
| a | {"x": 1}        | pass
| a | {}              | undefined

SELECT * FROM '#' WHERE x = TRUE
| a | {"x": true}     | pass
| a | {"x": false}    | false
| a | {"x": "true"}   | false
| a | {"x": 1}        | false
| a | {}              | undefined

SELECT * FROM '#' WHERE NULL = x
| a | {"x": null}     | pass
| a | {"x": 0}        | false
| a | {"x": ""}       | false
| a | {}              | undefined

SELECT * FROM '#' WHERE a = b
| a | {"a": "x", "b": "x"}                       | pass
| a | {"a": "x", "b": "X"}                       | false
| a | {"a": true, "b": true}                     | pass
| a | {"a": true, "b": false}                    | false
| a | {"a": true, "b": 1}                        | false
| a | {"a": 1, "b": "1"}                         | false
| a | {"a": 1, "b": 1.0}                         | pass
| a | {"a": null, "b": null}                     | pass
| a | {"a": null, "b": 0}                        | false
| a | {"a": [1, "x"], "b": [1.0, "x"]}           | pass
| a | {"a": [1, 2], "b": [2, 1]}                 | false
| a | {"a": [1], "b": [1, 2]}                    | false
| a | {"a": [1], "b": [true]}                    | false
| a | {"a": {"x": 1, "y": [2]}, "b": {"y": [2], "x": 1}}  | pass
| a | {"a": {"x": 1}, "b": {"x": 2}}             | false
| a | {"a": {"x": 1}, "b": {"y": 1}}             | false
| a | {"a": {}, "b": []}                         | false
| a | {"a": 1}                                   | undefined
| a | {"b": null}                                | undefined
| a | {}                                         | undefined

SELECT * FROM '#' WHERE x = a - 1
| a | {"x": 0, "a": 1}      | pass
| a | {"x": "0", "a": 1}    | false
| a | {"x": "0", "a": "1"}  | false
| a | {"x": null, "a": 1}   | false
| a | {"x": false, "a": 1}  | false
| a | {"x": null}           | undefined
| a | {"a": 1}              | undefined

-- LOGIC: an operand that is no truth makes the whole Undefined

SELECT * FROM '#' WHERE a AND b
| a | {"a": true, "b": true}      | pass
| a | {"a": true, "b": false}     | false
| a | {"a": "TRUE", "b": "true"}  | pass
| a | {"a": "true", "b": "False"} | false
| a | {"a": "yes", "b": true}     | undefined
| a | {"a": 1, "b": true}         | undefined
| a | {"a": null, "b": true}      | undefined
| a | {"b": false}                | undefined
| a | {"a": [true], "b": true}    | undefined

SELECT * FROM '#' WHERE a OR b
| a | {"a": false, "b": true}     | pass
| a | {"a": false, "b": false}    | false
| a | {"a": true}                 | undefined
| a | {"a": "true", "b": "x"}     | undefined

SELECT * FROM '#' WHERE NOT a
| a | {"a": false}     | pass
| a | {"a": "FALSE"}   | pass
| a | {"a": true}      | false
| a | {"a": "tru"}     | undefined
| a | {"a": 0}         | undefined
| a | {}               | undefined

SELECT * FROM '#' WHERE missing > 5 OR true
| a | {}               | undefined
| a | {"missing": 1}   | pass

SELECT * FROM '#' WHERE NOT missing = 1
| a | {}               | undefined
| a | {"missing": 1}   | false

SELECT * FROM '#' WHERE flag
| a | {"flag": true}      | pass
| a | {"flag": "TrUe"}    | pass
| a | {"flag": false}     | false
| a | {"flag": "false"}   | false
| a | {"flag": "truey"}   | undefined
| a | {"flag": 1}         | undefined
| a | {}                  | undefined

-- Three-valued logic where it is asked for: a deciding operand decides alone.
SELECT * FROM '#' WHERE a OR b
option undefined_logic kleene
| a | {"a": true}                 | pass
| a | {"b": true}                 | pass
| a | {"a": false}                | undefined
| a | {"a": "x", "b": "true"}     | pass
| a | {"a": false, "b": false}    | false
| a | {"a": false, "b": true}     | pass

SELECT * FROM '#' WHERE NOT (a > 1 AND b > 1 AND c > 1)
option undefined_logic kleene
| a | {"a": 0}                    | pass
| a | {"a": 2}                    | undefined
| a | {"a": 2, "b": null, "c": 1} | pass
| a | {"a": 2, "b": "2", "c": 2}  | false
| a | {"a": 2, "b": "2"}          | undefined
| a | {}                          | undefined

-- NOT binds tighter than AND, AND tighter than OR.
SELECT * FROM '#' WHERE NOT a AND b OR c
| a | {"a": false, "b": true, "c": false}  | pass
| a | {"a": true, "b": true, "c": false}   | false
| a | {"a": true, "b": false, "c": true}   | pass
| a | {"a": false, "b": false, "c": false} | false

SELECT * FROM '#' WHERE NOT (a AND (b OR c))
| a | {"a": false, "b": true, "c": true}   | pass
| a | {"a": true, "b": false, "c": true}   | false
| a | {"a": true, "b": false, "c": false}  | pass

-- Truths compared and joined.
SELECT * FROM '#' WHERE (a > 3) = true
| a | {"a": 4}      | pass
| a | {"a": 3}      | false
| a | {}            | undefined

SELECT * FROM '#' WHERE 'tr' + a
| a | {"a": "ue"}   | pass
| a | {"a": "uE"}   | pass
| a | {"a": 1}      | undefined

-- CONSTANTS

SELECT * FROM '#' WHERE TRUE
| a | {}            | pass

SELECT * FROM '#' WHERE 'FALSE'
| a | {}            | false

SELECT * FROM '#' WHERE NULL
| a | {}            | undefined

SELECT * FROM '#' WHERE 1
| a | {}            | undefined

SELECT * FROM '#' WHERE 0.1 + 0.2 = 0.3
| a | {}            | pass

SELECT * FROM '#' WHERE a > NULL + 1
| a | {"a": 1}      | undefined

SELECT * FROM '#' WHERE a = NULL + 1
| a | {"a": 1}      | undefined

SELECT * FROM '#' WHERE TRUE AND a > 1 AND 2 > 1
| a | {"a": 2}      | pass
| a | {"a": 1}      | false

-- ARITHMETIC: decimal, not binary

SELECT * FROM '#' WHERE a + b = 0.3
| a | {"a": 0.1, "b": 0.2}          | pass
| a | {"a": 0.1, "b": 0.20000000000000001}  | pass
| a | {"a": 0.1, "b": 0.20000000000000004}  | false
| a | {"a": 1, "b": -0.7}           | pass
| a | {"a": "0.1", "b": 0.2}        | false
| a | {"a": null, "b": 0.2}         | undefined
| a | {"b": 0.2}                    | undefined

SELECT * FROM '#' WHERE a * 3 > 0.3
| a | {"a": 0.1}                    | false
| a | {"a": 0.10000000000000002}    | pass

SELECT * FROM '#' WHERE a - b >= 0
| a | {"a": 9007199254740993, "b": 9007199254740992}  | pass
| a | {"a": 9007199254740992, "b": 9007199254740993}  | false
| a | {"a": "5", "b": "2"}          | pass
| a | {"a": "5", "b": "x"}          | undefined
| a | {"a": true, "b": 1}           | undefined
| a | {"a": [1], "b": 1}            | undefined

SELECT * FROM '#' WHERE -a > 1
| a | {"a": -2}                     | pass
| a | {"a": 2}                      | false
| a | {"a": "-2"}                   | pass
| a | {"a": true}                   | undefined
| a | {}                            | undefined

SELECT * FROM '#' WHERE -a = 0
| a | {"a": 0}                      | pass
| a | {"a": -0.0}                   | pass

-- Int / Int is cut toward zero; one Decimal makes it Decimal, and 2.0 is an Int.
SELECT * FROM '#' WHERE a / b = 2
| a | {"a": 5, "b": 2}              | pass
| a | {"a": 5.0, "b": 2.0}          | pass
| a | {"a": -5, "b": -2}            | pass
| a | {"a": 5.5, "b": 2}            | false
| a | {"a": 5, "b": 2.5}            | pass
| a | {"a": "5", "b": 2}            | false
| a | {"a": "4", "b": 2}            | pass
| a | {"a": 1, "b": 0}              | undefined
| a | {"a": 1.5, "b": 0}            | undefined
| a | {"a": 0, "b": 5}              | false
| a | {"a": 18014398509481986, "b": 9007199254740993}  | pass

SELECT * FROM '#' WHERE a / b = -2
| a | {"a": -5, "b": 2}             | pass
| a | {"a": 5, "b": -2}             | pass

SELECT * FROM '#' WHERE (50 - 32) * 5 / 9 = 10 AND (75 - 32) * 5 / 9 = 23
| a | {}                            | pass

SELECT * FROM '#' WHERE (f - 32) * 5 / 9 = 23
| a | {"f": 75}                     | pass
| a | {"f": 75.5}                   | false
| a | {"f": 73.4}                   | pass

-- A sum of Decimals that is whole is an Int.
SELECT * FROM '#' WHERE (a + b) / 2 < 2.2
| a | {"a": 0.1, "b": 4.9}          | pass
| a | {"a": 0.1, "b": 4.8}          | false
| a | {"a": 0.1, "b": 4.2}          | pass

SELECT * FROM '#' WHERE 1.5 / (a + b - c) > 5
| a | {"a": 0.1, "b": 0.2, "c": 0.3}  | undefined
| a | {"a": 0.1, "b": 0.2, "c": 0.2}  | pass

SELECT * FROM '#' WHERE (f - 32) * 5 / 9 > 23
option int_division decimal
| a | {"f": 75}                     | pass
| a | {"f": 73.4}                   | false
| a | {"f": 73.5}                   | pass

SELECT * FROM '#' WHERE a / b = 2.5
option int_division decimal
| a | {"a": 5, "b": 2}              | pass
| a | {"a": 5, "b": 0}              | undefined
| a | {"a": 7.5, "b": 3}            | pass

-- A quotient has 34 digits, so multiplying does not always undo a division.
SELECT * FROM '#' WHERE a / 7.5 * 7.5 = a
| a | {"a": 15}                     | pass
| a | {"a": 1}                      | false

-- The remainder has the sign of the dividend.
SELECT * FROM '#' WHERE a % b = 1
| a | {"a": 7, "b": 3}              | pass
| a | {"a": 7, "b": -3}             | pass
| a | {"a": -7, "b": 3}             | false
| a | {"a": 7.5, "b": 3.25}         | pass
| a | {"a": "7", "b": "3"}          | pass
| a | {"a": 7, "b": 0}              | undefined
| a | {"a": 1e30, "b": 7}           | pass
| a | {"a": 1e300, "b": 3}          | pass
| a | {"a": null, "b": 3}           | undefined

SELECT * FROM '#' WHERE a % b = -1
| a | {"a": -7, "b": 3}             | pass
| a | {"a": -7, "b": -3}            | pass

-- Out of the range of numbers.
SELECT * FROM '#' WHERE a * a * a * a > 1
| a | {"a": 1e300}                  | undefined
| a | {"a": 1e249}                  | pass
| a | {"a": 1e-300}                 | false

SELECT * FROM '#' WHERE a * a * a * a = 0
| a | {"a": 1e-300}                 | pass
| a | {"a": 1e-200}                 | false

SELECT * FROM '#' WHERE a * a * a * a * a = 0
| a | {"a": 1e-200}                 | pass
| a | {"a": 1e-199}                 | false

-- Precedence, and groups to the left.
SELECT * FROM '#' WHERE a - b - c = -4 AND a + b * c = 7 AND -a * b = -2 AND a - (b - c) = 2
| a | {"a": 1, "b": 2, "c": 3}      | pass

SELECT * FROM '#' WHERE 2 * 3 + 4 = 10 AND 2 + 3 * 4 = 14 AND 12 / 2 / 3 = 2 AND 7 % 4 % 2 = 1
| a | {}                            | pass

-- TEXT: + joins as soon as one side is text

SELECT * FROM '#' WHERE a + b = 'x5'
| a | {"a": "x", "b": 5}            | pass
| a | {"a": "x", "b": 5.0}          | pass
| a | {"a": "x", "b": "5"}          | pass
| a | {"a": "x", "b": 5.5}          | false
| a | {"a": "x", "b": null}         | undefined
| a | {"a": "x"}                    | undefined
| a | {"a": 1, "b": 5}              | false

SELECT * FROM '#' WHERE '' + a = t
| a | {"a": 1.50, "t": "1.5"}             | pass
| a | {"a": 1e20, "t": "100000000000000000000"}  | pass
| a | {"a": 1e-7, "t": "1E-7"}            | pass
| a | {"a": true, "t": "true"}            | pass
| a | {"a": [1, "x", null, 2.0], "t": "[1,\"x\",null,2]"}  | pass
| a | {"a": {"k": {"é": 0.5}}, "t": "{\"k\":{\"é\":0.5}}"}  | pass

SELECT * FROM '#' WHERE a + 1 = '11'
| a | {"a": "1"}                    | pass
| a | {"a": 10}                     | false

SELECT * FROM '#' WHERE 1 + a = '11'
| a | {"a": "1"}                    | pass
| a | {"a": 10}                     | false

SELECT * FROM '#' WHERE 'a' + 'b' = x
| a | {"x": "ab"}                   | pass
| a | {"x": "a"}                    | false

-- Quotes of both kinds, doubled inside; a backslash is a character.
SELECT * FROM "#" WHERE x = 'it''s' OR x = "say ""hi""" OR x = 'a\n'
| a | {"x": "it's"}                 | pass
| a | {"x": "say \"hi\""}           | pass
| a | {"x": "a\\n"}                 | pass
| a | {"x": "a\n"}                  | false

-- PATHS

SELECT * FROM '#' WHERE a.b.c > 1
| a | {"a": {"b": {"c": 2}}}        | pass
| a | {"a": {"b": [2]}}             | undefined
| a | {"a": {"b": null}}            | undefined
| a | {"a.b.c": 2}                  | undefined
| a | {"a": 2}                      | undefined

-- Keys are case-sensitive, keywords are not; words of clauses not in use are ordinary keys.
select * from '#' where Value = 1 and end = 2 And set.then = 3 aNd like = 4
| a | {"Value": 1, "end": 2, "set": {"then": 3}, "like": 4}  | pass
| a | {"value": 1, "end": 2, "set": {"then": 3}, "like": 4}  | undefined

-- TOPICS

SELECT * FROM 'home/+/thermostat'
measure t
| home/kitchen/thermostat | {"t": 1}   | pass        | 1
| home//thermostat        | {"t": 1}   | pass        | 1
| home/a/b/thermostat     | {"t": 1}   | other_topic | 1
| Home/a/thermostat       | {"t": 1}   | other_topic | 1
| -                       | {"t": 1}   | no_topic    | 1

SELECT * FROM 'sensor/#' WHERE t > 1
| sensor/                 | {"t": 2}   | pass
| sensor/x/y              | {"t": 2}   | pass
| sensor/x                | {"t": 1}   | false
| sensor/x                | {}         | undefined
| sensor/x                | {"t": "2"} | pass
| sensor                  | {"t": "2"} | other_topic
| sensors/x               | {"t": 1}   | other_topic
| -                       | {}         | no_topic

SELECT * FROM '#'
| a                       | {}         | pass
| $aws/things             | {}         | other_topic
| -                       | {}         | no_topic

-- A rule for Basic Ingest has no FROM, and does not ask for a topic.
SELECT * WHERE topic(1) = 'b'
| $aws/rules/r/b/c        | {}         | pass
| b                       | {}         | pass
| $aws/rules/r            | {}         | false
| -                       | {}         | undefined

SELECT * FROM '#' WHERE topic(2) = room
| home/kitchen            | {"room": "kitchen"}  | pass
| home/kitchen            | {"room": "hall"}     | false
| home/kitchen            | {}                   | undefined
| home                    | {"room": "kitchen"}  | undefined

SELECT * FROM '#' WHERE topic() = 'a/1' OR topic(2) > 5 OR topic('2') = '3' OR topic(n) = '4'
| a/1                     | {"n": 1}   | pass
| a/6                     | {"n": 1}   | pass
| a/3                     | {"n": 1}   | pass
| a/4                     | {"n": 1}   | false
| a/4                     | {"n": 2}   | pass
| a/4                     | {"n": 2.9} | pass
| a/4                     | {"n": "2"} | pass
| a/4                     | {"n": 0}   | undefined
| a/4                     | {}         | undefined

SELECT * FROM '#' WHERE topic(1, 2) = 'a'
| a/b                     | {}         | undefined

-- THE MEASURE is a path in the output of the SELECT

SELECT device, temperature FROM '#'
measure temperature
| a | {"temperature": 1.5}        | pass | 1.5
| a | {"device": 1}               | pass | -
| a | {"temperature": "1.5"}      | pass | "1.5"
| a | {"temperature": 9007199254740993} | pass | 9007199254740993

SELECT readings.t AS value FROM '#'
measure value
| a | {"readings": {"t": 3}, "value": 4}  | pass | 3
| a | {"value": 4}                        | pass | -

SELECT readings.t FROM '#'
measure t
| a | {"readings": {"t": 3}, "t": 4}      | pass | 3

SELECT readings FROM '#'
measure readings.t
| a | {"readings": {"t": 3}}              | pass | 3

SELECT * AS all FROM '#'
measure all.readings.t
| a | {"readings": {"t": 3}}              | pass | 3

SELECT r.t AS out.temp, * FROM '#'
measure out.temp
| a | {"r": {"t": 3}, "out": {"temp": 4}} | pass | 4

SELECT *, r.t AS out.temp FROM '#'
measure out.temp
| a | {"r": {"t": 3}, "out": {"temp": 4}} | pass | 3
| a | {"out": {"temp": 4}}                | pass | 4

SELECT *, r AS out FROM '#'
measure out.temp
| a | {"r": {"temp": 3}, "out": {"temp": 4}} | pass | 3

SELECT *, r.t AS out.temp FROM '#'
measure out.other
| a | {"r": {"t": 3}, "out": {"other": 4}}   | pass | 4

SELECT a AS x, b AS x FROM '#'
measure x
| a | {"a": 1, "b": 2}                    | pass | 2

SELECT topic(2) AS room FROM '#'
measure room.x
| a/3 | {"room": {"x": 1}}                | pass | -
