% Scheme functions that old sources call and today's LilyPond lacks, or has with
% other arguments.
#(define sf-unfold-repeats unfold-repeats)
#(define (unfold-repeats . arguments)
   (if (null? (cdr arguments))
       (sf-unfold-repeats '() (car arguments))
       (apply sf-unfold-repeats arguments)))

#(define (override-auto-beam-setting . arguments) *unspecified*)
#(define (revert-auto-beam-setting . arguments) *unspecified*)

#(define-markup-command (text layout props arg) (markup?)
   (interpret-markup layout props arg))
