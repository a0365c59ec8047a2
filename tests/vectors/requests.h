/*
 * Requests that an HTTP/1.1 server must refuse, and legal ones it must not. One row each: name, bytes, the status of the
 * first reply, how many requests reach the application. After a refusal the connection must be closed; a request for
 * /smuggled must never reach the application. Included by lib/http/vectors_test.c, which sends them over a socket.
 *
 * VECTOR(name, status, handled, bytes)
 */
#define V_H "Host: a.example\r\n"
#define V_CLOSE "Connection: close\r\n"
#define V_SMUGGLED "GET /smuggled HTTP/1.1\r\n" V_H "\r\n"
#define V_POST "POST /x HTTP/1.1\r\n" V_H
#define V_GET "GET /x HTTP/1.1\r\n" V_H
#define V_CHUNKED V_POST "Transfer-Encoding: chunked\r\n"

/* content length */
VECTOR(two_different_lengths, 400, 0, V_POST "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello" V_SMUGGLED)
VECTOR(two_equal_lengths, 400, 0, V_POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_list, 400, 0, V_POST "Content-Length: 5, 5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_space_before_colon, 400, 0, V_POST "Content-Length : 5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_tab_before_colon, 400, 0, V_POST "Content-Length\t: 5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_plus, 400, 0, V_POST "Content-Length: +5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_minus, 400, 0, V_POST "Content-Length: -5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_minus_zero, 400, 0, V_POST "Content-Length: -0\r\n\r\n" V_SMUGGLED)
VECTOR(length_hex, 400, 0, V_POST "Content-Length: 0x5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_junk_behind, 400, 0, V_POST "Content-Length: 5 5\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_point, 400, 0, V_POST "Content-Length: 5.0\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_empty, 400, 0, V_POST "Content-Length:\r\n\r\n" V_SMUGGLED)
VECTOR(length_overflow, 400, 0, V_POST "Content-Length: 18446744073709551621\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_sixteen_digits, 400, 0, V_POST "Content-Length: 0000000000000005\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_underscored_pair, 400, 0, V_POST "Content-Length: 5_\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_vertical_tab, 400, 0, V_POST "Content-Length: \0135\r\n\r\nhello" V_SMUGGLED)
VECTOR(length_over_limit, 413, 0, V_POST "Content-Length: 99999999999\r\n\r\nhello" V_SMUGGLED)

/* transfer encoding */
VECTOR(length_then_chunked, 400, 0, V_POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_then_length, 400, 0, V_POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_space_before_colon, 400, 0, V_POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_length_space_before_colon, 400, 0,
    V_POST "Content-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_twice, 400, 0, V_POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_and_identity, 400, 0, V_POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunked_list_twice, 501, 0, V_POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_identity, 501, 0, V_POST "Transfer-Encoding: identity\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_gzip_chunked, 501, 0, V_POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_xchunked, 501, 0, V_POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_chunked_quoted, 501, 0, V_POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_chunked_parameter, 501, 0, V_POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_empty, 501, 0, V_POST "Transfer-Encoding:\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_leading_comma, 501, 0, V_POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_vertical_tab, 400, 0, V_POST "Transfer-Encoding: \013chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_on_1_0, 400, 0, "POST /x HTTP/1.0\r\n" V_H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(encoding_folded, 400, 0, V_POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" V_SMUGGLED)

/* chunks */
VECTOR(chunk_size_prefix, 400, 0, V_CHUNKED "\r\n0x5\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_plus, 400, 0, V_CHUNKED "\r\n+5\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_minus, 400, 0, V_CHUNKED "\r\n-5\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_leading_space, 400, 0, V_CHUNKED "\r\n 5\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_trailing_space, 400, 0, V_CHUNKED "\r\n5 \r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_junk, 400, 0, V_CHUNKED "\r\n5 junk\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_empty, 400, 0, V_CHUNKED "\r\n\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_overflow, 400, 0, V_CHUNKED "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_bare_lf, 400, 0, V_CHUNKED "\r\n5\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_size_bare_cr, 400, 0, V_CHUNKED "\r\n5\rhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_without_end, 400, 0, V_CHUNKED "\r\n5\r\nhello0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_end_bare_lf, 400, 0, V_CHUNKED "\r\n5\r\nhello\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_longer_than_size, 400, 0, V_CHUNKED "\r\n3\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_extension_bare_lf, 400, 0, V_CHUNKED "\r\n5;a\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_extension_bare_cr, 400, 0, V_CHUNKED "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_extension_nul, 400, 0, V_CHUNKED "\r\n5;a\0b\r\nhello\r\n0\r\n\r\n" V_SMUGGLED)
VECTOR(chunk_last_bare_lf, 400, 0, V_CHUNKED "\r\n0\n\n" V_SMUGGLED)
VECTOR(trailer_length, 400, 0, V_CHUNKED "\r\n0\r\nContent-Length: 50\r\n\r\n" V_SMUGGLED)
VECTOR(trailer_encoding, 400, 0, V_CHUNKED "\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" V_SMUGGLED)
VECTOR(trailer_without_colon, 400, 0, V_CHUNKED "\r\n0\r\nnonsense\r\n\r\n" V_SMUGGLED)
VECTOR(trailer_folded, 400, 0, V_CHUNKED "\r\n0\r\nA: b\r\n c\r\n\r\n" V_SMUGGLED)
VECTOR(trailer_bare_lf, 400, 0, V_CHUNKED "\r\n0\r\nA: b\n\r\n" V_SMUGGLED)

/* lines and headers */
VECTOR(bare_lf_everywhere, 400, 0, "GET /x HTTP/1.1\nHost: a.example\n\n" V_SMUGGLED)
VECTOR(bare_lf_one_header, 400, 0, "GET /x HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n" V_SMUGGLED)
VECTOR(bare_lf_end_of_head, 400, 0, "GET /x HTTP/1.1\r\nHost: a.example\r\n\n" V_SMUGGLED)
VECTOR(bare_cr_in_value, 400, 0, V_GET "X: a\rTransfer-Encoding: chunked\r\n\r\n" V_SMUGGLED)
VECTOR(bare_cr_before_name, 400, 0, V_GET "\rTransfer-Encoding: chunked\r\n\r\n" V_SMUGGLED)
VECTOR(nul_in_value, 400, 0, V_GET "X: a\0b\r\n\r\n" V_SMUGGLED)
VECTOR(nul_in_name, 400, 0, V_GET "X\0: a\r\n\r\n" V_SMUGGLED)
VECTOR(control_in_value, 400, 0, V_GET "X: a\001b\r\n\r\n" V_SMUGGLED)
VECTOR(del_in_value, 400, 0, V_GET "X: a\177b\r\n\r\n" V_SMUGGLED)
VECTOR(folded_header, 400, 0, V_GET "X: a\r\n b\r\n\r\n" V_SMUGGLED)
VECTOR(folded_with_tab, 400, 0, V_GET "X: a\r\n\tb\r\n\r\n" V_SMUGGLED)
VECTOR(first_header_indented, 400, 0, "GET /x HTTP/1.1\r\n Host: a.example\r\n\r\n" V_SMUGGLED)
VECTOR(header_without_colon, 400, 0, V_GET "nonsense\r\n\r\n" V_SMUGGLED)
VECTOR(header_without_name, 400, 0, V_GET ": a\r\n\r\n" V_SMUGGLED)
VECTOR(header_name_with_space, 400, 0, V_GET "X Y: a\r\n\r\n" V_SMUGGLED)
VECTOR(header_name_with_bracket, 400, 0, V_GET "X(Y): a\r\n\r\n" V_SMUGGLED)
VECTOR(header_name_not_ascii, 400, 0, V_GET "X\xC3\xA9: a\r\n\r\n" V_SMUGGLED)

/* host */
VECTOR(host_missing, 400, 0, "GET /x HTTP/1.1\r\n\r\n" V_SMUGGLED)
VECTOR(host_twice, 400, 0, V_GET "Host: b.example\r\n\r\n" V_SMUGGLED)
VECTOR(host_twice_equal, 400, 0, V_GET V_H "\r\n" V_SMUGGLED)
VECTOR(host_empty, 400, 0, "GET /x HTTP/1.1\r\nHost:\r\n\r\n" V_SMUGGLED)
VECTOR(host_with_path, 400, 0, "GET /x HTTP/1.1\r\nHost: a.example/x\r\n\r\n" V_SMUGGLED)
VECTOR(host_with_user, 400, 0, "GET /x HTTP/1.1\r\nHost: u@a.example\r\n\r\n" V_SMUGGLED)
VECTOR(host_list, 400, 0, "GET /x HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n" V_SMUGGLED)
VECTOR(host_bad_port, 400, 0, "GET /x HTTP/1.1\r\nHost: a.example:8x\r\n\r\n" V_SMUGGLED)
VECTOR(host_space_before_colon, 400, 0, "GET /x HTTP/1.1\r\nHost : a.example\r\n\r\n" V_SMUGGLED)
VECTOR(host_differs_from_target, 400, 0, "GET http://b.example/x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)

/* request line */
VECTOR(version_9, 400, 0, "GET /x HTTP/9.9\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(version_2, 400, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
VECTOR(version_1_2, 400, 0, "GET /x HTTP/1.2\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(version_lower_case, 400, 0, "GET /x http/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(version_missing, 400, 0, "GET /x\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(version_long, 400, 0, "GET /x HTTP/1.10\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(version_trailing_space, 400, 0, "GET /x HTTP/1.1 \r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_with_space, 400, 0, "GET /x y HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_two_spaces, 400, 0, "GET  /x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_tab, 400, 0, "GET\t/x\tHTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_missing, 400, 0, "GET  HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_nul, 400, 0, "GET /x\0 HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_not_ascii, 400, 0, "GET /\xC3\xA9 HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_fragment, 400, 0, "GET /x#y HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_relative, 400, 0, "GET x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_star_with_get, 400, 0, "GET * HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_other_scheme, 400, 0, "GET ftp://a.example/x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_with_user, 400, 0, "GET http://u@a.example/x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(target_bare_cr, 400, 0, "GET /x\rHTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(method_connect, 501, 0, "CONNECT a.example:443 HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(method_not_token, 400, 0, "G(T /x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(method_missing, 400, 0, " /x HTTP/1.1\r\n" V_H "\r\n" V_SMUGGLED)
VECTOR(two_empty_lines_first, 400, 0, "\r\n\r\n" V_GET "\r\n" V_SMUGGLED)
VECTOR(bare_lf_first, 400, 0, "\n" V_GET "\r\n" V_SMUGGLED)
VECTOR(response_instead, 400, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" V_SMUGGLED)
VECTOR(tls_hello, 400, 0, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n" V_SMUGGLED)

/* a request behind a refused one is not looked at; one before it is answered */
VECTOR(good_then_bad, 200, 1, V_GET "\r\n" "GET /x HTTP/1.1\r\n\r\n" V_SMUGGLED)

/* legal */
VECTOR(plain_get, 200, 1, V_GET V_CLOSE "\r\n")
VECTOR(empty_line_first, 200, 1, "\r\n" V_GET V_CLOSE "\r\n")
VECTOR(version_1_0, 200, 1, "GET /x HTTP/1.0\r\n\r\n")
VECTOR(absolute_form, 200, 1, "GET http://a.example/x?q=1 HTTP/1.1\r\n" V_H V_CLOSE "\r\n")
VECTOR(options_star, 200, 1, "OPTIONS * HTTP/1.1\r\n" V_H V_CLOSE "\r\n")
VECTOR(value_with_tabs_and_latin1, 200, 1, V_GET V_CLOSE "X: \t a\tb \xE9 \t\r\n\r\n")
VECTOR(value_empty, 200, 1, V_GET V_CLOSE "X:\r\n\r\n")
VECTOR(host_ipv6, 200, 1, "GET /x HTTP/1.1\r\nHost: [::1]:8080\r\n" V_CLOSE "\r\n")
VECTOR(length_body, 200, 1, V_POST V_CLOSE "Content-Length: 5\r\n\r\nhello")
VECTOR(chunked_body, 200, 1, V_CHUNKED V_CLOSE "\r\n5\r\nhello\r\n0\r\n\r\n")
VECTOR(chunked_mixed_case, 200, 1, V_POST V_CLOSE "transfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
VECTOR(chunked_extensions_and_trailers, 200, 1, V_CHUNKED V_CLOSE "\r\n5;a=b;c=\"d e\"\r\nhello\r\n000;x\r\nDigest: abc\r\nX: y\r\n\r\n")
VECTOR(chunked_upper_hex, 200, 1, V_CHUNKED V_CLOSE "\r\nA\r\n0123456789\r\n0\r\n\r\n")
VECTOR(pipelined_three, 200, 3, V_GET "\r\n" V_POST "Content-Length: 2\r\n\r\nhi" V_GET V_CLOSE "\r\n")
VECTOR(nothing_behind_close, 200, 1, V_GET V_CLOSE "\r\n" V_SMUGGLED)

#undef V_H
#undef V_CLOSE
#undef V_SMUGGLED
#undef V_POST
#undef V_GET
#undef V_CHUNKED
